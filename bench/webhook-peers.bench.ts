/**
 * G7 and G8: Purser's webhook beside @supabase/stripe-sync-engine (checkout, invoice, subscription
 * and customer events in equal parts) and beside better-auth with its Stripe plugin
 * (customer.subscription.updated), on the same Postgres and in the same rounds. All are called in
 * this process with signed bodies; Stripe answers from memory, so its time is in none of the numbers.
 *
 * What each does is not the same, and that is part of the answer. stripe-sync-engine stores the
 * object as a row: no event log, no de-duplication, no ledger. better-auth updates one row. Purser
 * stores the event, reads the object from Stripe, writes lots, entries, balance, subscription state,
 * audit and "processed" in one transaction.
 */
import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import pg from 'pg';
import Stripe from 'stripe';
import { loadCatalogue } from '../src/catalogue/catalogue.ts';
import { createStripeCache } from '../src/checkout/stripeCache.ts';
import { sandboxCatalogue } from '../src/compose/sandboxCatalogue.ts';
import { type Database, type Logger, systemClock } from '../src/core/ports.ts';
import { createMirror } from '../src/credits/mirror.ts';
import { createMemoryRedis } from '../src/redis/memoryRedis.ts';
import { startSandbox } from '../src/sandbox/index.ts';
import { createSubscriptionSettlement } from '../src/subscriptions/settleSubscription.ts';
import { createPgDatabase } from '../src/supabase/pgDatabase.ts';
import { createOwnAccount } from '../src/webhook/ownAccount.ts';
import { createWebhook } from '../src/webhook/webhook.ts';
import { cpuMicros } from './support/cpu.ts';
import { type BenchPostgres, startBenchPostgres } from './support/postgres.ts';
import { numbered, recordedStripe } from './support/recordedStripe.ts';
import { report } from './support/report.ts';
import { loadRivals, type Rivals } from './support/rivals.ts';
import { interleave, type Turn } from './support/rounds.ts';

const USERS = 1_000;
const ROUNDS = Number(process.env.PEERS_ROUNDS ?? 5);
const IN_FLIGHT = 16;
/** Of one turn: about a second. */
const EVENTS = 240;
const POOL_MAX = 10;
const SECRET = `whsec_${randomBytes(16).toString('hex')}`;
const MIX = [
  'checkout.session.completed',
  'invoice.paid',
  'customer.subscription.updated',
  'customer.updated',
] as const;
type MixType = (typeof MIX)[number];

interface Delivery {
  id: string;
  body: string;
  signature: string;
}
type Work = (delivery: Delivery) => Promise<void>;

/** One event of each type, from a pack and a plan that user-0 bought. */
async function recordEvents(
  sandbox: Awaited<ReturnType<typeof startSandbox>>,
  stripe: Stripe,
): Promise<Record<MixType, string>> {
  await sandbox.setSettings({ deliveries: 'off' });
  const metadata = { userId: 'user-0' };
  const { id: customer } = await stripe.customers.create({ email: 'user-0@example.com', metadata });
  await sandbox.buy({ price: 'price_pack_50', customer, metadata });
  const { session } = await sandbox.buy({ price: 'price_individual', customer, metadata });
  // A renewal: the first invoice is the checkout's own, which a subscription has once.
  await sandbox.renew(String(session.subscription));
  await stripe.customers.update(customer, { name: 'User' });
  await stripe.subscriptions.update(String(session.subscription), { description: 'seen' });
  const { data } = await stripe.events.list({ limit: 100 });
  const textOf = (type: MixType) => {
    const event = data.find((one) => {
      const { mode } = one.data.object as { mode?: string };
      return one.type === type && (mode === undefined || mode === 'payment');
    });
    if (event === undefined) throw new Error(`The sandbox made no ${type}.`);
    return JSON.stringify(event);
  };
  return Object.fromEntries(MIX.map((type) => [type, textOf(type)])) as Record<MixType, string>;
}

function deliveriesOf(texts: string[], from: number, count: number): Delivery[] {
  const { webhooks } = new Stripe('sk_test_bench');
  return Array.from({ length: count }, (_, offset) => {
    const body = numbered(texts[offset % texts.length] ?? '', from + offset, USERS);
    return {
      id: (JSON.parse(body) as { id: string }).id,
      body,
      signature: webhooks.generateTestHeaderString({ payload: body, secret: SECRET }),
    };
  });
}

function fail(message: string, fields?: unknown): void {
  console.error(message, fields);
  process.exit(1);
}
/** A number from a case that fails now and then is worse than none. */
const strict: Logger = { error: fail, warn: fail, info() {}, debug() {} };

function createPurser(db: Database, stripe: Stripe) {
  const ends = new Map<string, () => void>();
  const observed: Database = {
    ...db,
    async rpc(name, args, options) {
      const answer = await db.rpc(name, args, options);
      if (name === 'apply_webhook_effects') ends.get(String(args?.p_event_id))?.();
      return answer as never;
    },
  };
  const nowMs = Date.now;
  const redis = createMemoryRedis({ nowMs });
  const catalogue = loadCatalogue(undefined);
  const runAfterResponse = () => {};
  const stripeCache = createStripeCache({
    db: observed,
    clock: systemClock,
    logger: strict,
    runAfterResponse,
  });
  const base = {
    db: observed,
    stripe,
    catalogue,
    clock: systemClock,
    logger: strict,
    stripeCache,
  };
  const webhook = createWebhook({
    ...base,
    subscriptions: createSubscriptionSettlement(base),
    redis,
    mirror: createMirror({ redis, logger: strict, nowMs, runAfterResponse }),
    livemode: false,
    ownAccount: createOwnAccount(base),
    random: Math.random,
    runAfterResponse,
    secrets: [SECRET],
    toleranceSeconds: 3_600,
  });
  return {
    idle: () => webhook.idle(),
    async process({ id, body, signature }: Delivery): Promise<void> {
      const end = new Promise<void>((resolve) => ends.set(id, resolve));
      await webhook.receive(Buffer.from(body), signature);
      await end;
      ends.delete(id);
      // The place among the events under way is given back in the next turn of the loop.
      await setImmediate();
    },
  };
}

async function openSyncEngine({ syncEngine }: Rivals, url: string, stripe: Stripe) {
  const schema = 'stripe';
  await syncEngine.runMigrations({ databaseUrl: url, schema });
  const sync = new syncEngine.StripeSync({
    schema,
    stripeSecretKey: 'sk_test_bench',
    stripeWebhookSecret: SECRET,
    backfillRelatedEntities: false,
    poolConfig: { connectionString: url, max: POOL_MAX },
  });
  // Its own client verifies; the calls it makes beside that are answered at no cost, as Purser's.
  sync.stripe = stripe;
  const work: Work = ({ body, signature }) => sync.processWebhook(body, signature);
  return { work, close: (): Promise<void> => sync.close() };
}

async function openBetterAuth(rivals: Rivals, url: string, subscription: string) {
  const pool = new pg.Pool({ connectionString: url, max: POOL_MAX });
  // Postgres is stopped while connections idle; that is no failure of the bench.
  pool.on('error', () => {});
  const options = {
    database: pool,
    secret: randomBytes(32).toString('hex'),
    baseURL: 'http://127.0.0.1:3000',
    logger: { disabled: true },
    telemetry: { enabled: false },
    plugins: [
      rivals.betterAuthStripe.stripe({
        stripeClient: new Stripe('sk_test_bench'),
        stripeWebhookSecret: SECRET,
        subscription: {
          enabled: true,
          plans: [{ name: 'individual', priceId: 'price_individual' }],
        },
      }),
    ],
  };
  const { runMigrations } = await rivals.betterAuthMigrations.getMigrations(options);
  await runMigrations();
  // It declares no index for what it looks rows up by.
  await pool.query('create index on subscription ("stripeSubscriptionId")');
  const { id, customer } = (JSON.parse(subscription) as Stripe.Event).data.object as {
    id: string;
    customer: string;
  };
  for (let n = 0; n < USERS; n += 1) {
    await pool.query(
      `insert into subscription (id, plan, "referenceId", "stripeCustomerId",
         "stripeSubscriptionId", status)
       values ($1, 'individual', $2, $3, $4, 'incomplete')`,
      [`s${n}`, `user-${n}`, `${customer}xN${n}`, `${id}xN${n}`],
    );
  }
  const { handler } = rivals.betterAuth.betterAuth(options);
  const work: Work = async ({ body, signature }) => {
    const answer: Response = await handler(
      new Request('http://127.0.0.1:3000/api/auth/stripe/webhook', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'stripe-signature': signature },
        body,
      }),
    );
    if (!answer.ok) throw new Error(`better-auth: ${answer.status} ${await answer.text()}`);
  };
  return {
    work,
    /** It answers 200 to what it did not do as well, so what was done is looked at. */
    async expectWork(): Promise<void> {
      const { rows } = await pool.query(
        `select count(*)::int as n from subscription where status <> 'incomplete'`,
      );
      if (rows[0].n === 0) throw new Error('better-auth answered 200 and updated nothing.');
    },
    close: () => pool.end(),
  };
}

async function turn(deliveries: Delivery[], inFlight: number, work: Work): Promise<Turn> {
  const latenciesMs: number[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (let one = deliveries[next++]; one; one = deliveries[next++]) {
        const startedAt = performance.now();
        await work(one);
        latenciesMs.push(performance.now() - startedAt);
      }
    }),
  );
  return { operations: deliveries.length, latenciesMs };
}

async function createUsers({ query }: BenchPostgres, event: string): Promise<void> {
  const { customer } = (JSON.parse(event) as Stripe.Event).data.object as { customer: string };
  await query(
    `insert into public.users (id, email, stripe_customer_id)
     select 'user-' || n, 'user-' || n || '@example.com', $2 || 'xN' || n
     from generate_series(0, $1::int) n`,
    [USERS - 1, customer],
  );
}

/** Cases side by side; each delivery is used once, so both sides get the same number of new ones. */
async function compare<Rival extends string>(given: {
  claim: string;
  rival: Rival;
  texts: string[];
  purser: ReturnType<typeof createPurser>;
  work: Work;
  postgres: BenchPostgres;
  goals: { rate: number; cpu?: number };
}): Promise<void> {
  const { claim, rival, texts, purser, work, postgres, goals } = given;
  for (const inFlight of [1, IN_FLIGHT]) {
    let ready: Delivery[] = [];
    const prepare = () => {
      ready = deliveriesOf(texts, used, EVENTS);
      used += EVENTS;
    };
    prepare();
    // CPU of this process is the measure of the goal; Postgres's share is told beside it.
    const ofPostgres = { [rival]: 0, purser: 0 } as Record<Rival | 'purser', number>;
    const measured = (name: Rival | 'purser', one: Work) => async () => {
      const before = cpuMicros([postgres.pid]) - cpuMicros();
      const result = await turn(ready, inFlight, one);
      ofPostgres[name] += cpuMicros([postgres.pid]) - cpuMicros() - before;
      return result;
    };
    const result = await interleave<Rival | 'purser'>({
      rounds: ROUNDS,
      cases: {
        [rival]: measured(rival, work),
        purser: measured('purser', purser.process),
      } as Record<Rival | 'purser', () => Promise<Turn>>,
      baseline: rival as never,
      between: async () => {
        await purser.idle();
        prepare();
      },
    });
    const perEvent = (name: Rival | 'purser') =>
      Math.round(ofPostgres[name] / ((ROUNDS + 1) * EVENTS));
    report<Rival | 'purser'>({
      url: import.meta.url,
      claim: `${claim}, ${inFlight} in flight`,
      operation: 'event',
      result,
      goals: [
        { case: 'purser', measure: 'rate', atLeast: goals.rate },
        ...(goals.cpu === undefined
          ? []
          : [{ case: 'purser', measure: 'cpu', atMost: goals.cpu } as const]),
      ],
      notes: {
        postgres: postgres.version,
        cpu: 'of this process; that of Postgres comes on top',
        [`postgres cpu us/event, ${rival}`]: perEvent(rival),
        'postgres cpu us/event, purser': perEvent('purser'),
      },
    });
  }
}

let used = 0;
const rivals = await loadRivals();
if (rivals !== null) {
  const sandbox = await startSandbox();
  const postgres = await startBenchPostgres();
  const url = new URL(postgres.connectionString);
  await postgres.query('create database rivals');
  url.pathname = '/rivals';
  const db = createPgDatabase({ connectionString: postgres.connectionString, poolMax: POOL_MAX });
  try {
    await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(undefined)));
    const { host, port, secretKey } = sandbox;
    const live = new Stripe(secretKey, { host, port, protocol: 'http', telemetry: false });
    const events = await recordEvents(sandbox, live);
    const stripe = recordedStripe(live, USERS);
    await createUsers(postgres, events['checkout.session.completed']);
    const purser = createPurser(db, stripe);
    const sync = await openSyncEngine(rivals, url.href, stripe);
    const auth = await openBetterAuth(rivals, url.href, events['customer.subscription.updated']);
    try {
      await compare({
        claim: 'four kinds of events, beside @supabase/stripe-sync-engine 0.48.5',
        rival: 'stripe-sync-engine',
        texts: MIX.map((type) => events[type]),
        purser,
        work: sync.work,
        postgres,
        goals: { rate: 1.5, cpu: 0.6 },
      });
      await compare({
        claim: 'customer.subscription.updated, beside better-auth 1.7.6 and its Stripe plugin',
        rival: 'better-auth',
        texts: [events['customer.subscription.updated']],
        purser,
        work: auth.work,
        postgres,
        goals: { rate: 4 },
      });
      await auth.expectWork();
      // Half of the mix brings credits; both comparisons with it have a round to warm up.
      const expected = 2 * (ROUNDS + 1) * (EVENTS / 2);
      const [sum] = await postgres.query<{ unfinished: number; credited: number; drift: number }>(
        `select (select count(*)::int from stripe_webhook_events
                 where status not in ('processed', 'ignored')) as unfinished,
                (select count(*)::int from credit_transactions) as credited,
                (select count(*)::int from validate_credits_consistency()) as drift`,
      );
      console.log(`  purser's ledger afterwards: ${JSON.stringify(sum)}`);
      if (sum?.unfinished !== 0 || sum.drift !== 0 || sum.credited !== expected) {
        throw new Error(`Expected ${expected} credited events, nothing unfinished, no drift.`);
      }
    } finally {
      await purser.idle();
      await sync.close();
      await auth.close();
    }
  } finally {
    await db.close();
    await sandbox.stop();
    await postgres.stop();
  }
}
