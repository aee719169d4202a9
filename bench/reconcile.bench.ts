/**
 * How many calls of Stripe's API it takes to compare 10,000 objects with the ledger, first with one
 * in eight at odds, then with none: pages are read, not objects. `npm run bench -- reconcile`.
 */
import { performance } from 'node:perf_hooks';
import { type Sandbox, startSandbox } from '../src/sandbox/index.ts';
import { openDomain } from '../tests/reconcile/support/domain.ts';
import { type BenchPostgres, startBenchPostgres } from './support/postgres.ts';

const OBJECTS = Number(process.env.RECONCILE_OBJECTS ?? 10_000);
const USERS = 500;
/** Of a hundred objects; the rest are sessions that sold packs. */
const SHARES = { refunds: 10, disputes: 1, subscriptions: 1 };
/** One paid session in so many is not in the ledger. */
const UNHEARD = 50;
const AT_ONCE = 16;
const BEHIND_MS = 3_600_000;
/** A page of 100 for each of Stripe's lists, and the last one of each. */
const CALLS_MAX_WHEN_CLEAN = OBJECTS / 100 + 10;

const of = (share: number) => Math.floor((OBJECTS * share) / 100);
const counts = {
  refunds: of(SHARES.refunds),
  disputes: of(SHARES.disputes),
  subscriptions: of(SHARES.subscriptions),
};
// A subscription is three objects: it, its session, and its invoice.
const sessions = OBJECTS - counts.refunds - counts.disputes - 3 * counts.subscriptions;

async function atOnce(many: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < many; index = next++) await work(index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** A shop whose last refunds and disputes, and some of its sessions, were never told. */
async function fill(sandbox: Sandbox, postgres: BenchPostgres): Promise<void> {
  await sandbox.seedCatalogue({
    products: [
      { id: 'prod_pack_50', name: '50 credits' },
      { id: 'prod_individual', name: 'Individual' },
    ],
    prices: [
      {
        ...{ id: 'price_pack_50', product: 'prod_pack_50', lookup_key: 'pack_50' },
        ...{ currency: 'usd', unit_amount: 500 },
      },
      {
        ...{ id: 'price_individual', product: 'prod_individual', lookup_key: 'individual' },
        ...{ currency: 'usd', unit_amount: 999, recurring: { interval: 'month' } },
      },
    ],
  });
  await postgres.query(`select ensure_user('u' || n) from generate_series(0, ${USERS - 1}) n`);
  const told: { session: string; payment: string; user: string }[] = [];
  await atOnce(sessions, async (index) => {
    const user = `u${index % USERS}`;
    const { session } = await sandbox.buy({ price: 'price_pack_50', metadata: { userId: user } });
    if (index % UNHEARD === 0 || session.payment_intent === null) return;
    told.push({ session: session.id, payment: session.payment_intent, user });
  });
  await atOnce(counts.subscriptions, async (index) => {
    await sandbox.buy({ price: 'price_individual', metadata: { userId: `u${index % USERS}` } });
  });
  await postgres.query(
    `select grant_credits(p_user_id => g ->> 'user', p_type => 'purchase', p_key => 'checkout:' || (g ->> 'session'),
       p_lots => '[{"credits": 50}]', p_sources => jsonb_build_array('checkout:' || (g ->> 'session')),
       p_payments => jsonb_build_array(jsonb_build_object('payment', g ->> 'payment', 'paid', 500, 'currency', 'usd')),
       p_metadata => '{"amount_total": 500, "currency": "usd", "items": [{"credits": 50}]}',
       p_stripe_session_id => g ->> 'session')
     from jsonb_array_elements($1::jsonb) g`,
    [JSON.stringify(told)],
  );
  await atOnce(counts.refunds, async (index) => {
    await sandbox.refund(told[index]?.payment ?? '', { amount: 100 });
  });
  await atOnce(counts.disputes, async (index) => {
    await sandbox.dispute(told[counts.refunds + index]?.payment ?? '');
  });
}

const postgres = await startBenchPostgres();
const sandbox = await startSandbox({ seed: 'reconcile', now: () => Date.now() - BEHIND_MS });
const { reconcile, close } = openDomain({ database: postgres, sandbox });
try {
  const since = new Date(Date.now() - 2 * BEHIND_MS).toISOString();
  const filling = performance.now();
  await fill(sandbox, postgres);
  console.log(`Filled in ${((performance.now() - filling) / 1_000).toFixed(1)} s.`);
  const rows: Record<string, unknown>[] = [];
  for (const name of ['one in eight at odds', 'clean', 'clean again']) {
    const startedAt = performance.now();
    let answer = await reconcile.run({ since }, 'bench', () => false);
    let slices = 1;
    for (; answer.outcome === 'paused'; slices += 1) answer = await reconcile.resume(() => false);
    const seconds = (performance.now() - startedAt) / 1_000;
    const { stages = {} } = answer.progress ?? {};
    const stripeObjects = (
      ['sessions', 'invoices', 'refunds', 'disputes', 'subscriptions'] as const
    )
      .map((stage) => stages[stage]?.objects ?? 0)
      .reduce((sum, objects) => sum + objects, 0);
    rows.push({
      run: name,
      'objects at Stripe': stripeObjects,
      found: answer.findings,
      repaired: answer.repaired,
      'Stripe calls': answer.stripe_calls,
      slices,
      seconds: Number(seconds.toFixed(1)),
      'objects/s': Math.round(stripeObjects / seconds),
    });
  }
  console.table(rows);
  const calls = Number(rows.at(-1)?.['Stripe calls']);
  const met = calls <= CALLS_MAX_WHEN_CLEAN ? 'met' : 'missed';
  console.log(
    `${OBJECTS} objects that agree, in ${CALLS_MAX_WHEN_CLEAN} calls: ${met} (${calls}).`,
  );
  const [drift] = await postgres.query<{ n: number }>(
    'select count(*)::int as n from validate_credits_consistency()',
  );
  console.log(`Books that do not add up afterwards: ${drift?.n}.`);
} finally {
  await close();
  await sandbox.stop();
  await postgres.stop();
}
