/**
 * G6: from a signed event to credits in the ledger, inside one process. The limit verifies the
 * same bytes and makes the same two durable commits through the same driver, with nothing in them
 * that could be left out: the event as a row, then a balance and an entry under a unique key. What
 * Purser adds is its price: leases and order, lots, sources, the record of the checkout, audit of
 * what was decided, guards, the mirror. Stripe's answer time is excluded: its client answers from
 * memory.
 */
import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import pg from 'pg';
import Stripe from 'stripe';
import { loadCatalogue } from '../src/catalogue/catalogue.ts';
import { sandboxCatalogue } from '../src/compose/sandboxCatalogue.ts';
import { type Database, type Logger, systemClock } from '../src/core/ports.ts';
import { createMirror } from '../src/credits/mirror.ts';
import { createMemoryRedis } from '../src/redis/memoryRedis.ts';
import { startSandbox } from '../src/sandbox/index.ts';
import { createPgDatabase } from '../src/supabase/pgDatabase.ts';
import { createWebhook } from '../src/webhook/webhook.ts';
import { type BenchPostgres, startBenchPostgres } from './support/postgres.ts';
import { report } from './support/report.ts';
import { interleave, type Turn } from './support/rounds.ts';

const USERS = 10_000;
const ROUNDS = 9;
/** Of one turn, by how many are in flight: about half a second. */
const EVENTS = { 1: 200, 16: 600 } as const;
/** Connections of either side. */
const POOL_MAX = 10;
const SECRET = `whsec_${randomBytes(16).toString('hex')}`;

const MINIMAL = `
  create schema bench;
  create table bench.events (id text primary key, body jsonb not null);
  create table bench.users (id text primary key, balance bigint not null);
  create table bench.entries (user_id text not null, key text not null unique,
    amount bigint not null, balance_after bigint not null,
    created_at timestamptz not null default clock_timestamp());
  insert into bench.users select 'user-' || n, 0 from generate_series(0, ${USERS - 1}) n;
  create function bench.apply(p_user text, p_key text, p_amount bigint) returns bigint
  language plpgsql as $$
  declare v_balance bigint;
  begin
    update bench.users set balance = balance + p_amount where id = p_user returning balance into v_balance;
    insert into bench.entries (user_id, key, amount, balance_after) values (p_user, p_key, p_amount, v_balance);
    return v_balance;
  end $$;`;

/** A paid checkout as Stripe tells of it, with ids to be replaced. */
interface Purchase {
  event: Stripe.Event;
  session: Stripe.Checkout.Session;
  items: Stripe.LineItem[];
}

async function examplePurchase(): Promise<Purchase> {
  const sandbox = await startSandbox();
  try {
    await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(undefined)));
    const { host, port } = sandbox;
    const stripe = new Stripe(sandbox.secretKey, { host, port, protocol: 'http' });
    const metadata = { userId: 'user-0', userEmail: 'user-0@example.com', plan: 'pack_50' };
    const customer = await stripe.customers.create({ email: metadata.userEmail, metadata });
    const { id } = await stripe.checkout.sessions.create({
      mode: 'payment',
      customer: customer.id,
      line_items: [{ price: 'price_pack_50', quantity: 1 }],
      metadata,
      payment_intent_data: { metadata },
      invoice_creation: { enabled: true, invoice_data: { metadata } },
      success_url: 'https://shop.example/success',
    });
    await sandbox.pay(id);
    const session = await stripe.checkout.sessions.retrieve(id);
    const { data: items } = await stripe.checkout.sessions.listLineItems(id, {
      expand: ['data.price.product'],
    });
    const { data } = await stripe.events.list({ type: 'checkout.session.completed' });
    const event = data.find(({ data: { object } }) => (object as { id: string }).id === id);
    if (event === undefined) throw new Error('The sandbox sent no event.');
    return { event, session, items };
  } finally {
    await sandbox.stop();
  }
}

interface Delivery {
  eventId: string;
  userId: string;
  key: string;
  body: string;
  signature: string;
}

/** What a session's number is replaced by in everything that names it. */
function numbered(text: string, { event, session }: Purchase, n: number): string {
  const ids: [string, string][] = [
    [event.id, `evt_bench${n}`],
    [session.id, `cs_bench${n}`],
    [String(session.payment_intent), `pi_bench${n}`],
    [String(session.invoice), `in_bench${n}`],
    [String(session.customer), `cus_bench${n % USERS}`],
    ['user-0', `user-${n % USERS}`],
  ];
  return ids.reduce((result, [from, to]) => result.replaceAll(from, to), text);
}

function createDeliveries(purchase: Purchase, from: number, count: number): Delivery[] {
  const eventText = JSON.stringify(purchase.event);
  return Array.from({ length: count }, (_, offset) => {
    const n = from + offset;
    const body = numbered(eventText, purchase, n);
    return {
      eventId: `evt_bench${n}`,
      userId: `user-${n % USERS}`,
      key: `checkout:cs_bench${n}`,
      body,
      signature: new Stripe('sk_test_bench').webhooks.generateTestHeaderString({
        payload: body,
        secret: SECRET,
      }),
    };
  });
}

/** Stripe as the handlers use it, answering at once with objects that are there already. */
function answeringStripe({ session, items }: Purchase): Stripe {
  return {
    webhooks: new Stripe('sk_test_bench').webhooks,
    checkout: {
      sessions: {
        async retrieve(id: string) {
          const n = Number(id.slice('cs_bench'.length));
          return {
            ...session,
            id,
            payment_intent: `pi_bench${n}`,
            invoice: `in_bench${n}`,
            customer: `cus_bench${n % USERS}`,
            metadata: { ...session.metadata, userId: `user-${n % USERS}` },
          };
        },
        listLineItems: () => ({ autoPagingToArray: async () => items }),
      },
    },
  } as unknown as Stripe;
}

const silent: Logger = { error: fail, warn: fail, info() {}, debug() {} };
/** A number from a case that fails now and then is worse than none. */
function fail(message: string, fields?: unknown): void {
  console.error(message, fields);
  process.exit(1);
}

/** Hands events to Purser's webhook; resolves when the effects of the event are committed. */
function createPurser(db: Database, purchase: Purchase) {
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
  const webhook = createWebhook({
    db: observed,
    redis,
    mirror: createMirror({ redis, logger: silent, nowMs, runAfterResponse: () => {} }),
    stripe: answeringStripe(purchase),
    catalogue: loadCatalogue(undefined),
    clock: systemClock,
    logger: silent,
    livemode: false,
    ownAccount: async () => null,
    stripeCache: { read: (_key, load) => load(), forget() {} },
    subscriptions: { ofSession: async () => [], ofInvoice: async () => [] },
    random: Math.random,
    runAfterResponse: () => {},
    secrets: [SECRET],
    toleranceSeconds: 3600,
  });
  return {
    async process({ eventId, body, signature }: Delivery): Promise<void> {
      const end = new Promise<void>((resolve) => ends.set(eventId, resolve));
      await webhook.receive(Buffer.from(body), signature);
      await end;
      ends.delete(eventId);
      // The place among the events under way is given back in the next turn of the loop.
      await setImmediate();
    },
    idle: () => webhook.idle(),
  };
}

function createLimit(pool: pg.Pool) {
  const stripe = new Stripe('sk_test_bench');
  return async ({ eventId, userId, key, body, signature }: Delivery): Promise<void> => {
    stripe.webhooks.constructEvent(body, signature, SECRET, 3600);
    await pool.query(
      'insert into bench.events (id, body) values ($1, $2) on conflict (id) do nothing',
      [eventId, body],
    );
    await pool.query('select bench.apply($1, $2, $3)', [userId, key, 50]);
  };
}

async function turn(
  deliveries: Delivery[],
  inFlight: number,
  work: (delivery: Delivery) => Promise<void>,
): Promise<Turn> {
  const latenciesMs: number[] = [];
  let next = 0;
  const worker = async () => {
    for (let delivery = deliveries[next++]; delivery; delivery = deliveries[next++]) {
      const startedAt = performance.now();
      await work(delivery);
      latenciesMs.push(performance.now() - startedAt);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return { operations: deliveries.length, latenciesMs };
}

/** Users with their Stripe customer, as the checkout leaves them. */
async function createUsers({ query }: BenchPostgres): Promise<void> {
  await query(
    `insert into public.users (id, email, stripe_customer_id)
     select 'user-' || n, 'user-' || n || '@example.com', 'cus_bench' || n
     from generate_series(0, $1::int) n`,
    [USERS - 1],
  );
}

async function recordSessions({ query }: BenchPostgres, from: number, count: number) {
  await query(
    `select count(record_checkout_session(p_session_id => 'cs_bench' || n,
       p_user_id => 'user-' || n % $3, p_customer_id => 'cus_bench' || n % $3, p_mode => 'payment',
       p_catalogue_id => 'pack_50', p_price_id => 'price_pack_50', p_quantity => 1,
       p_credits => 50, p_expires_at => now() + interval '1 day'))
     from generate_series($1::int, $2::int) n`,
    [from, from + count - 1, USERS],
  );
}

const purchase = await examplePurchase();
const postgres = await startBenchPostgres();
const db = createPgDatabase({ connectionString: postgres.connectionString, poolMax: POOL_MAX });
const pool = new pg.Pool({ connectionString: postgres.connectionString, max: POOL_MAX });
try {
  await postgres.query(MINIMAL);
  await createUsers(postgres);
  const purser = createPurser(db, purchase);
  const limit = createLimit(pool);
  let used = 0;
  for (const inFlight of [1, 16] as const) {
    const count = EVENTS[inFlight];
    const prepare = async () => {
      await recordSessions(postgres, used, count);
      const deliveries = createDeliveries(purchase, used, count);
      used += count;
      return deliveries;
    };
    const ready = { limit: await prepare(), purser: await prepare() };
    const result = await interleave({
      rounds: ROUNDS,
      cases: {
        limit: () => turn(ready.limit, inFlight, limit),
        purser: () => turn(ready.purser, inFlight, purser.process),
      },
      pids: () => [postgres.pid],
      between: async () => {
        await purser.idle();
        ready.limit = await prepare();
        ready.purser = await prepare();
      },
    });
    report({
      url: import.meta.url,
      claim: `a purchase event reaches the ledger at 0.75 of the pace of two minimal commits, ${inFlight} in flight`,
      operation: 'event',
      result,
      goals: [
        { case: 'purser', measure: 'rate', atLeast: 0.75 },
        { case: 'purser', measure: 'cpu', atMost: 1.4 },
      ],
      notes: {
        postgres: postgres.version,
        'event bytes': Buffer.byteLength(ready.limit[0]?.body ?? ''),
      },
    });
  }
  const [sum] = await postgres.query<{ entries: number; processed: number; drift: number }>(
    `select (select count(*)::int from credit_transactions) as entries,
            (select count(*)::int from stripe_webhook_events where status = 'processed') as processed,
            (select count(*)::int from validate_credits_consistency()) as drift`,
  );
  const expected = (ROUNDS + 1) * (EVENTS[1] + EVENTS[16]);
  if (sum?.entries !== expected || sum.processed !== expected || sum.drift !== 0) {
    throw new Error(`Expected ${expected} credited events without drift: ${JSON.stringify(sum)}`);
  }
} finally {
  await db.close();
  await pool.end();
  await postgres.stop();
}
