/**
 * A year of a shop in minutes: customers of the sandbox buy, change, fail to pay and take money
 * back, the whole product receives the events through deliveries that go wrong, and at the end the
 * ledger is compared with what Stripe's own objects say.
 */

import { loadCatalogue } from '../../../src/catalogue/catalogue.ts';
import type { Sandbox } from '../../../src/sandbox/index.ts';
import { HANDLERS } from '../../../src/webhook/dispatch.ts';
import { live } from './days.ts';
import type { PriceList } from './expectedCredits.ts';
import { type Difference, findDifferences, type Query } from './ledgerCheck.ts';
import { createPerson, type Person, type World } from './people.ts';
import { openShop, type Shop } from './shop.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** Every week somebody sends again what never came; the last weeks are left to the product's own job. */
const RESEND_EVERY_DAYS = 7;
const OWN_REPLAY_DAYS = 20;
/** The sandbox shows its last 1,000 deliveries; so many attempts are looked at together. */
const LOOK_ATTEMPTS = 200;
const DRAIN_MS_MAX = 30 * 60_000;
/** Requests of the replay until it says that all is compared. */
const REPLAY_CALLS_MAX = 100;

/** How deliveries go wrong. The first rule that wins its chance counts. */
const FAULTS = [
  { drop: true, probability: 0.03 },
  { duplicate: 2, probability: 0.05 },
  { delay_ms: HOUR_MS, probability: 0.05 },
  { reorder: 5, probability: 0.05 },
  { lose_answer: 1, probability: 0.04 },
  { wrong_secret: true, probability: 0.02 },
] as const;

export interface YearOptions {
  connectionString: string;
  query: Query;
  customers: number;
  seed: string;
  /** Default 365. */
  days?: number;
  onDay?: (day: number, people: number) => void;
}

export interface YearReport {
  /** What happened, by name, and how often; `, refused` where Stripe rightly said no. */
  story: Record<string, number>;
  deliveries: number;
  faults: Record<string, number>;
  /** Sent again during the year, and found by the product's own comparison at its end. */
  resent: number;
  replayed: number;
  /** Rows of the inbox by status. */
  inbox: Record<string, number>;
  entries: Record<string, { entries: number; credits: number }>;
  customers: number;
  differences: Difference[];
  /** Of validate_credits_consistency(). */
  drift: number;
  /** Warnings and errors of the server. */
  complaints: Record<string, number>;
  /** Of the sandbox itself: books that do not agree. */
  contradictions: number;
  seconds: number;
}

export async function simulateYear(options: YearOptions): Promise<YearReport> {
  const { connectionString, query, customers, seed, days = 365, onDay = () => {} } = options;
  const startedAt = performance.now();
  const startMs = Math.floor(Date.now() / DAY_MS - days) * DAY_MS;
  const shop = await openShop({ connectionString, seed: `year-${seed}`, now: () => startMs });
  const { sandbox, stripe } = shop;
  try {
    await openEndpoint(shop);
    const counts = new Map<string, number>();
    const used = new Map<string, number>();
    const world = createWorld(shop, counts, used);
    const people: Person[] = [];
    for (let nth = 0; nth < customers; nth += 1) {
      people.push(await createPerson(world, { seed, nth }));
    }
    const told = createTeller(sandbox);
    let resent = 0;
    for (let day = 0; day < days; day += 1) {
      for (const person of people) await live(world, person, day);
      await world.usesDone();
      const { attempts } = await sandbox.advance({ days: 1 });
      await told.look(attempts);
      if (day % RESEND_EVERY_DAYS === 0 && days - day > OWN_REPLAY_DAYS) {
        const since = startMs / 1000 + (day - RESEND_EVERY_DAYS - 1) * 86_400;
        resent += await resendMissing(shop, query, since);
      }
      onDay(day + 1, people.length);
    }
    await told.look(LOOK_ATTEMPTS);
    await sandbox.setFaults({});
    await sandbox.advance({ days: 4 });
    const replayed = await replayMissing(shop);
    await drain(shop, query);
    const [consistency] = await query<{ drift: number }>(
      'select count(*)::int as drift from validate_credits_consistency()',
    );
    const differences = await findDifferences({
      stripe,
      query,
      prices: priceList(),
      people,
      today: days,
      used,
    });
    return {
      story: sorted(counts),
      deliveries: told.deliveries(),
      faults: told.faults(),
      resent,
      replayed,
      inbox: await countInbox(query),
      entries: await countEntries(query),
      customers,
      differences,
      drift: consistency?.drift ?? -1,
      complaints: sorted(shop.complaints),
      contradictions: (await sandbox.checkBooks()).contradictions.length,
      seconds: (performance.now() - startedAt) / 1000,
    };
  } finally {
    await shop.stop();
  }
}

const sorted = (counts: ReadonlyMap<string, number>) =>
  Object.fromEntries([...counts].sort(([a], [b]) => a.localeCompare(b)));

async function openEndpoint({ url, sandbox, webhookSecret }: Shop): Promise<void> {
  await sandbox.ensureWebhookEndpoint({
    url: `${url}/api/webhooks/stripe`,
    secret: webhookSecret,
    // What is acted upon, and two of those that are only recorded.
    enabledEvents: [...Object.keys(HANDLERS), 'charge.succeeded', 'invoice.finalized'],
  });
  await sandbox.setFaults(FAULTS);
}

function priceList(): PriceList {
  const { packs, plans } = loadCatalogue(undefined);
  return new Map(
    [...packs, ...plans].map(({ priceId, credits, unitAmount }) => [
      String(priceId),
      { credits, unitAmount },
    ]),
  );
}

function createWorld(
  { sandbox, stripe, asService }: Shop,
  counts: Map<string, number>,
  used: Map<string, number>,
): World & { usesDone(): Promise<void> } {
  // What people use goes beside Stripe: nothing of the story waits for it.
  let uses: Promise<void>[] = [];
  const use = async (user: string, day: number, amount: number) => {
    const { status, body } = await asService(
      'POST',
      '/api/credits/consume',
      { user_id: user, amount },
      `day-${day}`,
    );
    if (status === 200) used.set(user, (used.get(user) ?? 0) + amount);
    else if (status !== 402 && status !== 403) throw new Error(JSON.stringify(body));
    count(status === 200 ? 'use' : `use, refused as ${body.code}`);
  };
  const count = (what: string) => void counts.set(what, (counts.get(what) ?? 0) + 1);
  return {
    sandbox,
    stripe,
    count,
    async signUp({ user, customer, nth }) {
      const body = { email: `buyer-${nth}@example.com`, stripe_customer_id: customer };
      const answer = await asService('PUT', `/api/users/${user}`, body);
      if (answer.status !== 200) throw new Error(`No user: ${JSON.stringify(answer.body)}`);
      count('sign-up');
    },
    use: ({ user }, day, amount) => void uses.push(use(user, day, amount)),
    async usesDone() {
      await Promise.all(uses);
      uses = [];
    },
  };
}

/** Deliveries are forgotten by the sandbox after a while, so they are counted day by day. */
function createTeller(sandbox: Sandbox) {
  const kinds = new Map<string, string>();
  let since = 0;
  return {
    async look(attempts: number) {
      since += attempts;
      if (since < LOOK_ATTEMPTS) return;
      since = 0;
      for (const { id, fault } of await sandbox.deliveries()) {
        kinds.set(id, fault === null ? '' : Object.keys(fault).join('+'));
      }
    },
    deliveries: () => kinds.size,
    faults() {
      const counts = new Map<string, number>();
      for (const kind of kinds.values()) {
        if (kind !== '') counts.set(kind, (counts.get(kind) ?? 0) + 1);
      }
      return sorted(counts);
    },
  };
}

/** Sends again, as one does in Stripe's dashboard, what is not in the inbox. */
async function resendMissing(
  { sandbox, stripe }: Shop,
  query: Query,
  since: number,
): Promise<number> {
  const wanted: string[] = [];
  for await (const { id, type } of stripe.events.list({ created: { gte: since }, limit: 100 })) {
    if (Object.hasOwn(HANDLERS, type)) wanted.push(id);
  }
  const missing = await query<{ id: string }>(
    `select sent.id from unnest($1::text[]) sent(id)
     where not exists (select from stripe_webhook_events e where e.stripe_event_id = sent.id)`,
    [wanted],
  );
  for (const { id } of missing) await sandbox.resend(id);
  return missing.length;
}

/** The product's own comparison with Stripe's list of events. How many it found. */
async function replayMissing({ asAdmin }: Shop): Promise<number> {
  let found = 0;
  let since = new Date(Date.now() - (OWN_REPLAY_DAYS + 8) * DAY_MS).toISOString();
  for (let calls = 0; calls < REPLAY_CALLS_MAX; calls += 1) {
    const { status, body } = await asAdmin('POST', '/api/admin/stripe/replay-missed-events', {
      since,
    });
    if (status !== 200) throw new Error(`No replay: ${JSON.stringify(body)}`);
    found += body.received;
    if (body.complete) return found;
    since = body.next_since;
  }
  throw new Error(`The replay had not ended after ${REPLAY_CALLS_MAX} calls.`);
}

/** Until nothing is under way any more. Retries that wait are not waited for, but made due. */
async function drain({ asAdmin }: Shop, query: Query): Promise<void> {
  const end = performance.now() + DRAIN_MS_MAX;
  for (;;) {
    await asAdmin('POST', '/api/admin/jobs/webhook-sweep/run');
    const rows = await query<{ status: string; n: number; error: string | null }>(
      `select status, count(*)::int as n, max(error_message) as error from stripe_webhook_events
       where status in ('received', 'leased', 'failed') group by status`,
    );
    if (rows.length === 0) return;
    if (performance.now() > end) {
      throw new Error(`The inbox is not empty: ${JSON.stringify(rows)}`);
    }
    await query(
      `update stripe_webhook_events set next_attempt_at = clock_timestamp()
       where status = 'failed' and next_attempt_at > clock_timestamp()`,
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function countInbox(query: Query): Promise<Record<string, number>> {
  const rows = await query<{ status: string; n: number }>(
    'select status, count(*)::int as n from stripe_webhook_events group by status order by status',
  );
  return Object.fromEntries(rows.map(({ status, n }) => [status, n]));
}

async function countEntries(query: Query): Promise<YearReport['entries']> {
  const rows = await query<{ type: string; entries: number; credits: number }>(
    `select transaction_type as type, count(*)::int as entries, sum(amount)::float8 as credits
     from credit_transactions group by transaction_type order by transaction_type`,
  );
  return Object.fromEntries(rows.map(({ type, entries, credits }) => [type, { entries, credits }]));
}
