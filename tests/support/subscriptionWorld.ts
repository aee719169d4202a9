/** Stories of subscriptions at the sandbox, told to a server in several orders. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type Stripe from 'stripe';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { HANDLERS } from '../../src/webhook/dispatch.ts';
import type { TestDatabase } from './postgres.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from './stack.ts';

/** Round prices, so that shares of a month can be told by heart. */
const CATALOGUE = {
  currency: 'usd',
  packs: { pack_50: { credits: 50, amount: 500 } },
  plans: {
    small: { name: 'Small', credits: 30, amount: 1_000, quotas: { projects: 3 } },
    big: { name: 'Big', credits: 200, amount: 3_000, tier: 'gold' },
    tried: { name: 'Tried', credits: 30, amount: 1_000, trial_credits: 10 },
    fleeting: { name: 'Fleeting', credits: 30, amount: 1_000, rollover: false },
  },
};

/** 31 days from here to the first renewal. */
export const START = Date.UTC(2026, 0, 1) / 1_000;

export interface World {
  stack: Stack;
  sandbox: Sandbox;
  stripe: Stripe;
  database: TestDatabase;
  stop(): Promise<void>;
}

export interface Subscriber {
  user: string;
  customer: string;
  subscription: string;
}

/** What one of the subscribers does. */
export type Act = (world: World, subscriber: Subscriber) => Promise<unknown>;
/** A number is days that pass. */
export type Step = number | Act;

export async function openWorld(
  database: TestDatabase,
  {
    startSeconds = START,
    stripeThrough = async (origin: string) => origin,
  }: {
    startSeconds?: number;
    /** Where the server finds Stripe, by where the sandbox is. */
    stripeThrough?: (origin: string) => Promise<string>;
  } = {},
): Promise<World> {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'purser-plans-')), 'catalogue.json');
  writeFileSync(file, JSON.stringify(CATALOGUE));
  const sandbox = await startSandbox({ now: () => startSeconds * 1_000 });
  await sandbox.freeze();
  const stack = await startStack({
    connectionString: database.connectionString,
    sandbox,
    env: { PURSER_CATALOGUE: file, STRIPE_API_BASE: await stripeThrough(sandbox.origin) },
  });
  return {
    stack,
    sandbox,
    stripe: stack.stripe,
    database,
    async stop() {
      await stack.stop();
      await sandbox.stop();
    },
  };
}

/** A customer whom the server knows, with a card, and no subscription yet. */
export async function newSubscriber({ stack, stripe }: World, user: string): Promise<Subscriber> {
  const customer = await stripe.customers.create({
    email: `${user}@example.com`,
    payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  await stack.call('PUT', `/api/users/${user}`, {
    bearer: SERVICE_KEY,
    body: { email: `${user}@example.com`, stripe_customer_id: customer.id },
  });
  return { user, customer: customer.id, subscription: '' };
}

/** Buys a plan through the server's own checkout, as a browser would. */
export function buys(plan: string, quantity = 1): Act {
  return async ({ stack, sandbox }, subscriber) => {
    const answer = await stack.call('POST', '/api/checkout-session', {
      bearer: await stack.token(subscriber.user),
      body: { plan, quantity },
    });
    if (answer.status !== 200) throw new Error(`No checkout: ${JSON.stringify(answer.body)}`);
    const { session } = await sandbox.pay(answer.body.session_id);
    subscriber.subscription = String(session.subscription);
  };
}

/** Is subscribed by the merchant, with what checkout does not offer. */
export function subscribes(plan: string, more: Partial<Stripe.SubscriptionCreateParams> = {}): Act {
  return async ({ stripe }, subscriber) => {
    const { id } = await stripe.subscriptions.create({
      customer: subscriber.customer,
      items: [{ price: `price_${plan}` }],
      ...more,
    });
    subscriber.subscription = id;
  };
}

export function changes(params: Stripe.SubscriptionUpdateParams): Step {
  return ({ stripe }, { subscription }) => stripe.subscriptions.update(subscription, params);
}

/** Moves to another plan. */
export function moves(
  plan: string,
  proration_behavior: Stripe.SubscriptionUpdateParams.ProrationBehavior,
): Step {
  return async ({ stripe }, { subscription }) => {
    const { items } = await stripe.subscriptions.retrieve(subscription);
    const [item] = items.data;
    if (item === undefined) throw new Error(`${subscription} has no items`);
    await stripe.subscriptions.update(subscription, {
      items: [{ id: item.id, price: `price_${plan}` }],
      proration_behavior,
    });
  };
}

export async function latestInvoice(
  { stripe }: World,
  subscription: string,
): Promise<Stripe.Invoice> {
  const { data } = await stripe.invoices.list({ subscription, limit: 1 });
  if (data[0] === undefined) throw new Error(`${subscription} has no invoice`);
  return data[0];
}

/** Every event that is acted upon, by customer, oldest first, since the last look. */
export function createEventReader({ stripe }: World) {
  let seen: string | undefined;
  return async (): Promise<Map<string, Stripe.Event[]>> => {
    const found: Stripe.Event[] = [];
    for await (const event of stripe.events.list({ limit: 100 })) {
      if (event.id === seen) break;
      found.push(event);
    }
    seen = found[0]?.id ?? seen;
    const byCustomer = new Map<string, Stripe.Event[]>();
    for (const event of found.reverse()) {
      if (!Object.hasOwn(HANDLERS, event.type)) continue;
      const customer = await customerOf(stripe, event);
      byCustomer.set(customer, [...(byCustomer.get(customer) ?? []), event]);
    }
    return byCustomer;
  };
}

/** Refunds and disputes name a payment only; '' for what belongs to no customer. */
async function customerOf(stripe: Stripe, { data }: Stripe.Event): Promise<string> {
  const object = data.object as {
    id?: string;
    object: string;
    customer?: unknown;
    payment_intent?: unknown;
  };
  if (object.object === 'customer') return String(object.id);
  if (typeof object.customer === 'string') return object.customer;
  if (typeof object.payment_intent !== 'string') return '';
  return String((await stripe.paymentIntents.retrieve(object.payment_intent)).customer ?? '');
}

/** Delivers, really signed, one after the other, and waits until all have ended. */
export async function deliverAll(
  { stack, database }: World,
  events: { id: string; type: string }[],
): Promise<void> {
  for (const event of events) {
    const { status } = await stack.deliver(event);
    if (status !== 200) throw new Error(`${event.type} was answered ${status}`);
  }
  const ids = [...new Set(events.map(({ id }) => id))];
  await waitFor(async () => {
    const [row] = await database.query<{ n: number }>(
      `select count(*)::int as n from stripe_webhook_events
         where stripe_event_id = any ($1) and status not in ('received', 'leased', 'failed')`,
      [ids],
    );
    return row?.n === ids.length;
  }, `the end of ${ids.length} events`);
}

/** Each event twice under its id, every second one also under another: one fact, two events. */
export function shuffledAndDoubled<T extends { id: string }>(events: T[], seed: number): T[] {
  const random = randomOf(seed);
  const all = events.flatMap((event, index) => [
    event,
    event,
    ...(index % 2 === seed % 2 ? [{ ...event, id: `${event.id}_again` }] : []),
  ]);
  for (let last = all.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [all[last], all[other]] = [all[other] as T, all[last] as T];
  }
  return all;
}

/** Repeatable numbers from 0 to 1 (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed * 0x9e3779b9;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export interface Standing {
  balance: number;
  available: number;
  /** `type amount`, sorted. */
  entries: string[];
  subscription: { status: string; plan: string | null; quantity: number } | null;
  plan: string;
  suspended: boolean;
  /** What a quota check sees in Redis. */
  mirror: { balance: number; available: number; source: string };
}

/** Where a user stands, by the ledger, the subscription's row and the copy in Redis. */
export async function standingOf(
  { stack, database }: World,
  { user, subscription }: Subscriber,
): Promise<Standing> {
  const check = async () =>
    (
      await stack.call('POST', '/api/credits/check', {
        bearer: SERVICE_KEY,
        body: { user_id: user, amount: 1 },
      })
    ).body;
  // Refusals are asked of the ledger while suspended, so the copy is what is compared.
  await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
  const seen = await check();
  const balance = (await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY }))
    .body;
  const entries = await database.query<{ entry: string }>(
    `select transaction_type || ' ' || amount as entry from credit_transactions where user_id = $1 order by 1`,
    [user],
  );
  const [row] = await database.query<{ status: string; plan: string | null; quantity: number }>(
    'select status, plan, quantity::int from subscription where stripe_subscription_id = $1',
    [subscription],
  );
  const [account] = await database.query<{ plan: string; credits_suspended: boolean }>(
    'select plan, credits_suspended from users where id = $1',
    [user],
  );
  return {
    balance: balance.balance,
    available: balance.available,
    entries: entries.map(({ entry }) => entry),
    subscription: row ?? null,
    plan: account?.plan ?? '',
    suspended: account?.credits_suspended ?? false,
    mirror: { balance: seen.balance, available: seen.available, source: seen.source },
  };
}
