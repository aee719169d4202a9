/** A subscriber whose renewal fails, Purser around him, and one clock for both sides. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type Stripe from 'stripe';
import type { Clock } from '../../src/core/ports.ts';
import type { DunningCase, DunningDetail } from '../../src/dunning/dunning.types.ts';
import { every } from '../../src/jobs/every.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { HANDLERS } from '../../src/webhook/dispatch.ts';
import type { TestDatabase } from '../support/postgres.ts';
import {
  ADMIN_KEY,
  type CallAnswer,
  CRON_SECRET,
  SERVICE_KEY,
  type Stack,
  startStack,
  waitFor,
} from '../support/stack.ts';

export const GOOD_CARD = '4242424242424242';
/** Can be saved, and is declined when charged. */
export const BAD_CARD = '4000000000000341';

export const CATALOGUE = {
  currency: 'usd',
  packs: { pack_50: { credits: 50, amount: 500 } },
  plans: {
    small: { name: 'Small', credits: 30, amount: 1_000 },
    patient: { name: 'Patient', credits: 30, amount: 1_000, dunning: { cancel_day: null } },
    brisk: {
      name: 'Brisk',
      credits: 30,
      amount: 1_000,
      dunning: { mail_days: [0, 2], cancel_day: 4, wait_for_retries_days: 0 },
    },
  },
};

export interface DunningWorld {
  stack: Stack;
  sandbox: Sandbox;
  stripe: Stripe;
  database: TestDatabase;
  clock: Clock;
  /** Both clocks go on; what becomes due at Stripe happens, and no event is delivered. */
  pass(by: { days?: number; hours?: number }): Promise<void>;
  /** A user with a plan and a good card, all events told. */
  subscriber(user: string, plan?: string): Promise<Customer>;
  /** What happened to that customer since the last look, oldest first. */
  events(customer: Customer): Promise<Stripe.Event[]>;
  /** Delivers, signed, and waits until all have ended. */
  deliver(events: Stripe.Event[]): Promise<void>;
  /** Runs the job as a cron caller would. */
  run(): Promise<Record<string, number>>;
  admin(method: string, target: string, body?: unknown): Promise<CallAnswer>;
  stop(): Promise<void>;
}

/** Jobs of this pace or slower are run by the tests alone. */
const SLOW_SECONDS = 60;

export interface Customer {
  user: string;
  customer: string;
  subscription: string;
}

/**
 * Stripe's own retries are off unless a test sets them: then only Purser acts. The clocks stand at the
 * real time of the start, which tokens and signatures are judged by.
 */
export async function openDunningWorld(
  database: TestDatabase,
  more: { wrapDatabase?: Parameters<typeof startStack>[0]['wrapDatabase'] } = {},
): Promise<DunningWorld> {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'purser-dunning-')), 'catalogue.json');
  writeFileSync(file, JSON.stringify(CATALOGUE));
  let nowMs = Date.now();
  const clock: Clock = { now: () => new Date(nowMs) };
  const start = nowMs;
  const sandbox = await startSandbox({ now: () => start });
  await sandbox.freeze();
  await sandbox.setSettings({
    retry_days: [],
    after_last_retry: 'leave_past_due',
    draft_seconds: 0,
  });
  const stack = await startStack({
    connectionString: database.connectionString,
    sandbox,
    clock,
    env: { PURSER_CATALOGUE: file },
    // The tests say when dunning runs; what follows events goes on by itself.
    every: (seconds, work) => (seconds < SLOW_SECONDS ? every(seconds, work) : { stop() {} }),
    ...(more.wrapDatabase === undefined ? {} : { wrapDatabase: more.wrapDatabase }),
  });
  const { stripe } = stack;
  /** The newest event at the last look: for each customer, and of all. */
  const seen = new Map<string, string>();
  let newestSeen: string | undefined;

  const world: DunningWorld = {
    stack,
    sandbox,
    stripe,
    database,
    clock,
    async pass(by) {
      const { now } = await sandbox.advance(by);
      nowMs = now * 1_000;
    },
    async subscriber(user, plan = 'small') {
      const customer = await stripe.customers.create({
        email: `${user}@example.com`,
        payment_method: 'pm_card_visa',
        invoice_settings: { default_payment_method: 'pm_card_visa' },
      });
      if (newestSeen !== undefined) seen.set(customer.id, newestSeen);
      await stack.call('PUT', `/api/users/${user}`, {
        bearer: SERVICE_KEY,
        body: { email: `${user}@example.com`, stripe_customer_id: customer.id },
      });
      const { id } = await stripe.subscriptions.create({
        customer: customer.id,
        items: [{ price: `price_${plan}` }],
      });
      const made = { user, customer: customer.id, subscription: id };
      await world.deliver(await world.events(made));
      return made;
    },
    async events({ customer }) {
      const found: Stripe.Event[] = [];
      let newest: string | undefined;
      for await (const event of stripe.events.list({ limit: 100 })) {
        if (event.id === seen.get(customer)) break;
        newest ??= event.id;
        const object = event.data.object as { id?: string; object: string; customer?: unknown };
        const owner = object.object === 'customer' ? object.id : object.customer;
        if (owner === customer && Object.hasOwn(HANDLERS, event.type)) found.push(event);
      }
      if (newest !== undefined) {
        seen.set(customer, newest);
        newestSeen = newest;
      }
      return found.reverse();
    },
    async deliver(events) {
      const timestamp = Math.floor(nowMs / 1_000);
      for (const event of events) {
        const { status, body } = await stack.deliver(event, { timestamp });
        if (status !== 200) throw new Error(`${event.type}: ${status} ${JSON.stringify(body)}`);
      }
      const ids = [...new Set(events.map(({ id }) => id))];
      await waitFor(
        async () => {
          const [row] = await database.query<{ left: number }>(
            `select count(*)::int as left from stripe_webhook_events
           where stripe_event_id = any ($1) and status not in ('processed', 'ignored')`,
            [ids],
          );
          return row?.left === 0;
        },
        `${ids.length} events`,
        90,
      );
    },
    async run() {
      const { status, body } = await stack.call('GET', '/api/cron/dunning', {
        bearer: CRON_SECRET,
      });
      if (status !== 200 || body.outcome !== 'done') {
        throw new Error(`The job ended with ${status} ${JSON.stringify(body)}`);
      }
      return body.result;
    },
    admin: (method, target, body) =>
      stack.call(method, `/api/admin/dunning${target}`, {
        bearer: ADMIN_KEY,
        ...(body === undefined ? {} : { body }),
      }),
    async stop() {
      await stack.stop();
      await sandbox.stop();
    },
  };
  return world;
}

/** A subscriber whose renewal has just failed; no event about that is delivered yet. */
export async function fails(
  world: DunningWorld,
  user: string,
  plan?: string,
): Promise<Customer & { invoice: string }> {
  const customer = await world.subscriber(user, plan);
  await world.sandbox.setCard(customer.customer, BAD_CARD);
  await world.deliver(await world.events(customer));
  const { invoice } = await world.sandbox.renew(customer.subscription);
  if (invoice === null) throw new Error(`${customer.subscription} was not billed`);
  return { ...customer, invoice: invoice.id };
}

export interface Standing {
  state: string | undefined;
  resolution: string | null | undefined;
  /** `kind urgency days` of each mail, in order. */
  mails: string[];
  stripe: string;
  local: string | undefined;
  plan: string;
}

/** Where case, mails, Stripe's subscription and ours stand. */
export async function standing(
  { stripe, database }: DunningWorld,
  { user, subscription }: Customer,
): Promise<Standing> {
  const [found] = await database.query<{ state: string; resolution: string | null }>(
    'select state, resolution from dunning_cases where user_id = $1',
    [user],
  );
  const mails = await database.query<{ mail: string }>(
    `select kind || ' ' || coalesce(data ->> 'urgency', data ->> 'reason') || coalesce(' ' || (data ->> 'days_overdue'), '') as mail
     from notifications where user_id = $1 and kind in ('payment_failed', 'subscription_canceled') order by id`,
    [user],
  );
  const [local] = await database.query<{ status: string }>(
    'select status from subscription where stripe_subscription_id = $1',
    [subscription],
  );
  const [account] = await database.query<{ plan: string }>('select plan from users where id = $1', [
    user,
  ]);
  return {
    state: found?.state,
    resolution: found?.resolution,
    mails: mails.map(({ mail }) => mail),
    stripe: (await stripe.subscriptions.retrieve(subscription)).status,
    local: local?.status,
    plan: account?.plan ?? '',
  };
}

/** The one case of a user, as the admin API shows it. */
export async function caseOf(world: DunningWorld, { user }: Customer): Promise<DunningDetail> {
  const { body } = await world.admin('GET', `?user_id=${user}`);
  const [found] = body.data as DunningCase[];
  if (found === undefined) throw new Error(`${user} has no dunning case`);
  return (await world.admin('GET', `/${found.case_id}`)).body;
}
