/** Thousands of real events of a sandbox, sent as fast as the server takes them. */
import type Stripe from 'stripe';
import type { Sandbox } from '../../src/sandbox/index.ts';
import type { Query } from './year/ledgerCheck.ts';

const IN_FLIGHT = 64;
/** What is not taken is sent again, as Stripe does, but at once. */
const ATTEMPTS_MAX = 20;
/** Each of so many events is sent twice, as Stripe does now and then. */
const TWICE_EVERY = 10;
/** Purchases between two looks at how many events there are. */
const PURCHASES_BEFORE_LOOK = 12;
const DRAIN_MS_MAX = 30 * 60_000;
const LOOK_MS = 250;

/** What the buyers take in turn: a pack with its invoice, one without, a plan. */
const PURCHASES = [
  { order: { price: 'price_pack_50', invoice: true }, credits: 50 },
  { order: { price: 'price_pack_200' }, credits: 200 },
  { order: { price: 'price_individual' }, credits: 30 },
] as const;

export interface Burst {
  /** Oldest first. */
  events: Stripe.Event[];
  /** What each user must have in the end. */
  credits: Map<string, number>;
}

/** At least `count` events of purchases of known users; nothing is delivered by the sandbox. */
export async function prepareBurst(
  { sandbox, stripe, query }: { sandbox: Sandbox; stripe: Stripe; query: Query },
  count: number,
): Promise<Burst> {
  await sandbox.setSettings({ deliveries: 'off' });
  const credits = new Map<string, number>();
  while (((await sandbox.status()).objects.events ?? 0) < count) {
    for (let purchase = 0; purchase < PURCHASES_BEFORE_LOOK; purchase += 1) {
      const nth = credits.size;
      const user = `burst-${nth}`;
      const { id: customer } = await stripe.customers.create({ email: `${user}@example.com` });
      const { order, credits: worth } = PURCHASES[nth % PURCHASES.length] ?? PURCHASES[0];
      await sandbox.buy({ ...order, customer, metadata: { userId: user } });
      credits.set(user, worth);
    }
  }
  await query(
    `insert into public.users (id, email)
     select name, name || '@example.com' from unnest($1::text[]) name`,
    [[...credits.keys()]],
  );
  const events: Stripe.Event[] = [];
  for await (const event of stripe.events.list({ limit: 100 })) events.push(event);
  return { events: events.reverse(), credits };
}

export interface BurstSent {
  /** Ids of events that got a 2xx. */
  taken: Set<string>;
  /** Answers by status; sent twice and sent again count each time. */
  answers: Record<string, number>;
  seconds: number;
}

/** Signs and sends all of them, each until it is taken. Rejects when one never is. */
export async function sendBurst(
  { stripe, url, secret }: { stripe: Stripe; url: string; secret: string },
  events: readonly Stripe.Event[],
): Promise<BurstSent> {
  const queue = events.flatMap((event, nth) =>
    nth % TWICE_EVERY === 0 ? [event, event] : [event],
  );
  const bodies = queue.map((event) => ({ id: event.id, body: JSON.stringify(event, null, 2) }));
  const taken = new Set<string>();
  const answers: Record<string, number> = {};
  let next = 0;
  const startedAt = performance.now();
  async function work(): Promise<void> {
    for (let one = bodies[next++]; one !== undefined; one = bodies[next++]) {
      await sendUntilTaken(one);
      taken.add(one.id);
    }
  }
  async function sendUntilTaken({ id, body }: { id: string; body: string }): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const signature = stripe.webhooks.generateTestHeaderString({ payload: body, secret });
      const answer = await fetch(`${url}/api/webhooks/stripe`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'stripe-signature': signature },
        body,
      });
      await answer.arrayBuffer();
      answers[answer.status] = (answers[answer.status] ?? 0) + 1;
      if (answer.ok) return;
    }
    throw new Error(`${id} was not taken in ${ATTEMPTS_MAX} attempts: ${JSON.stringify(answers)}`);
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return { taken, answers, seconds: (performance.now() - startedAt) / 1000 };
}

/** Until nothing is under way; seconds. The server's own sweeps do the work. */
export async function waitUntilDrained(query: Query): Promise<number> {
  const startedAt = performance.now();
  for (;;) {
    const [row] = await query<{ left: number }>(
      `select count(*)::int as left from stripe_webhook_events
       where status in ('received', 'leased', 'failed')`,
    );
    if (row?.left === 0) return (performance.now() - startedAt) / 1000;
    if (performance.now() - startedAt > DRAIN_MS_MAX) {
      throw new Error(`${row?.left} events were still under way after ${DRAIN_MS_MAX / 1000} s.`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

export interface BurstFaults {
  /** Taken, and not in the inbox; or in it more than once. */
  lost: string[];
  doubled: string[];
  /** Neither processed nor ignored, as `id status`. */
  unfinished: string[];
  /** Users with other credits than they paid for, as `user found/expected`. */
  wrong: string[];
  drift: number;
}

/** What went wrong; all empty when every taken event has its row and its effect, once. */
export async function findBurstFaults(
  query: Query,
  taken: ReadonlySet<string>,
  credits: ReadonlyMap<string, number>,
): Promise<BurstFaults> {
  const rows = await query<{ id: string; status: string }>(
    'select stripe_event_id as id, status from stripe_webhook_events',
  );
  const found = new Set<string>();
  const doubled = rows.filter(({ id }) => found.size === found.add(id).size).map(({ id }) => id);
  const sums = await query<{ user: string; sum: number }>(
    `select user_id as user, sum(amount)::float8 as sum from credit_transactions group by user_id`,
  );
  const sumOf = new Map(sums.map(({ user, sum }) => [user, sum]));
  const [consistency] = await query<{ drift: number }>(
    'select count(*)::int as drift from validate_credits_consistency()',
  );
  return {
    lost: [...taken].filter((id) => !found.has(id)),
    doubled,
    unfinished: rows
      .filter(({ status }) => status !== 'processed' && status !== 'ignored')
      .map(({ id, status }) => `${id} ${status}`),
    wrong: [...credits]
      .filter(([user, worth]) => sumOf.get(user) !== worth)
      .map(([user, worth]) => `${user} ${sumOf.get(user) ?? 0}/${worth}`),
    drift: consistency?.drift ?? -1,
  };
}
