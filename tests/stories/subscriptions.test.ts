/**
 * Stories of subscriptions through the whole stack: the official SDK and a browserless buyer at the
 * sandbox, its clock, really signed deliveries, real Postgres. Each is told once as it happens and
 * then, to other users, afterwards, shuffled and doubled, as endpoints of today, of 2020 and thin ones
 * are told it: the end must be the same.
 */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import {
  buys,
  changes,
  createEventReader,
  deliverAll,
  latestInvoice,
  moves,
  newSubscriber,
  openWorld,
  type Standing,
  type Step,
  type Subscriber,
  shuffledAndDoubled,
  standingOf,
  subscribes,
  type World,
} from '../support/subscriptionWorld.ts';
import { type EventForm, keepToldEvents, type ToldEvents } from '../support/toldEvents.ts';

const SEEDS = Number(process.env.PURSER_STORY_SEEDS ?? 5);
/** A guard against hanging, far above what the slowest machine takes. */
const TEST_MS_MAX = 60_000 * (SEEDS + 1);
/** By turns. */
const FORMS: readonly EventForm[] = ['old', 'thin', 'new'];

const database = testDatabase();
let world: World;
let readEvents: ReturnType<typeof createEventReader>;
let told: ToldEvents;
beforeAll(async () => {
  world = await openWorld(database.current);
  readEvents = createEventReader(world);
  told = await keepToldEvents(world.sandbox, world.stripe);
});
afterAll(async () => {
  await world.stop();
  await told.stop();
});

interface Story {
  name: string;
  steps: Step[];
  end: {
    balance: number;
    entries: string[];
    status: string;
    plan: string;
    quantity?: number;
    /** Of the subscription's row, where it differs from the user's. */
    subscribed?: string;
    suspended?: boolean;
    available?: number;
  };
}

const fails =
  (times: number): Step =>
  ({ sandbox }, { customer }) =>
    sandbox.failNextPayments(customer, { times });
const cancels: Step = ({ stripe }, { subscription }) => stripe.subscriptions.cancel(subscription);
/** The renewal and the hour in which its invoice is a draft. */
const MONTH = 31.1;
const settings =
  (change: Parameters<World['sandbox']['setSettings']>[0]): Step =>
  (given) =>
    given.sandbox.setSettings(change);

const STORIES: Story[] = [
  {
    name: 'subscribes and renews three times',
    steps: [buys('small'), MONTH, 31, 30],
    end: { balance: 120, entries: Array(4).fill('allocation 30'), status: 'active', plan: 'small' },
  },
  {
    name: 'three seats',
    steps: [buys('small', 3), MONTH],
    end: {
      balance: 180,
      entries: Array(2).fill('allocation 90'),
      status: 'active',
      plan: 'small',
      quantity: 3,
    },
  },
  {
    // -500 of 1000 for 30 credits and 1500 of 3000 for 200: 85.
    name: 'an upgrade at half time, billed at once',
    steps: [subscribes('small', {}), 15.5, moves('big', 'always_invoice'), 16],
    end: {
      balance: 315,
      entries: ['allocation 200', 'allocation 30', 'allocation 85'],
      status: 'active',
      plan: 'big',
    },
  },
  {
    // -1500 of 3000 for 200, 500 and 1000 of 1000 for 30: -55, so nothing.
    name: 'a downgrade at half time, netted with the next bill',
    steps: [subscribes('big'), 15.5, moves('small', 'create_prorations'), 16, 31],
    end: {
      balance: 230,
      entries: ['allocation 200', 'allocation 30'],
      status: 'active',
      plan: 'small',
    },
  },
  {
    name: 'a coupon of 100 %',
    steps: [
      async (given, subscriber) => {
        const coupon = await given.stripe.coupons.create({ percent_off: 100, duration: 'forever' });
        await subscribes('small', { discounts: [{ coupon: coupon.id }] })(given, subscriber);
      },
      MONTH,
    ],
    end: { balance: 60, entries: Array(2).fill('allocation 30'), status: 'active', plan: 'small' },
  },
  {
    name: 'a trial that is paid for later',
    steps: [subscribes('tried', { trial_period_days: 14 }), 14.2],
    end: {
      balance: 40,
      entries: ['allocation 10', 'allocation 30'],
      status: 'active',
      plan: 'tried',
    },
  },
  {
    name: 'a trial begun in a checkout: nothing to pay, and only its own credits',
    steps: [
      async (given, subscriber) => {
        const { id } = await given.stripe.checkout.sessions.create({
          mode: 'subscription',
          customer: subscriber.customer,
          line_items: [{ price: 'price_tried', quantity: 1 }],
          subscription_data: { trial_period_days: 14 },
          success_url: 'https://example.com/',
        });
        const { session } = await given.sandbox.pay(id);
        subscriber.subscription = String(session.subscription);
      },
    ],
    end: { balance: 10, entries: ['allocation 10'], status: 'trialing', plan: 'tried' },
  },
  {
    // -500 and 3 * 500 of 1000 for 30: 30.
    name: 'two more seats at half time, billed at once',
    steps: [
      subscribes('small'),
      15.5,
      async (given, { subscription }) => {
        const { items } = await given.stripe.subscriptions.retrieve(subscription);
        await given.stripe.subscriptions.update(subscription, {
          items: [{ id: items.data[0]?.id ?? '', quantity: 3 }],
          proration_behavior: 'always_invoice',
        });
      },
      16,
    ],
    end: {
      balance: 150,
      entries: ['allocation 30', 'allocation 30', 'allocation 90'],
      status: 'active',
      plan: 'small',
      quantity: 3,
    },
  },
  {
    name: 'a renewal paid from the balance of the customer',
    steps: [
      buys('small'),
      ({ stripe }, { customer }) => stripe.customers.update(customer, { balance: -1_000 }),
      MONTH,
    ],
    end: { balance: 60, entries: Array(2).fill('allocation 30'), status: 'active', plan: 'small' },
  },
  {
    name: 'a renewal that fails once',
    steps: [buys('small'), fails(1), MONTH, 4],
    end: { balance: 60, entries: Array(2).fill('allocation 30'), status: 'active', plan: 'small' },
  },
  {
    name: 'a renewal that is still failing',
    steps: [buys('small'), fails(9), MONTH],
    end: {
      balance: 30,
      available: 0,
      entries: ['allocation 30'],
      status: 'past_due',
      plan: 'small',
      suspended: true,
    },
  },
  {
    name: 'a renewal that fails for good',
    steps: [settings({ after_last_retry: 'mark_unpaid' }), buys('small'), fails(9), MONTH, 20],
    end: {
      balance: 30,
      available: 0,
      entries: ['allocation 30'],
      status: 'unpaid',
      plan: 'free',
      subscribed: 'small',
      suspended: true,
    },
  },
  {
    name: 'a failed renewal paid out of band',
    steps: [
      buys('small'),
      fails(9),
      MONTH,
      async (given, { subscription }) =>
        given.stripe.invoices.pay((await latestInvoice(given, subscription)).id, {
          paid_out_of_band: true,
        }),
    ],
    end: { balance: 60, entries: Array(2).fill('allocation 30'), status: 'active', plan: 'small' },
  },
  {
    name: 'cancelled at the end of the period',
    steps: [buys('small'), changes({ cancel_at_period_end: true }), MONTH],
    end: {
      balance: 30,
      entries: ['allocation 30'],
      status: 'canceled',
      plan: 'free',
      subscribed: 'small',
    },
  },
  {
    name: 'cancelled now',
    steps: [buys('big'), 3, cancels],
    end: {
      balance: 200,
      entries: ['allocation 200'],
      status: 'canceled',
      plan: 'free',
      subscribed: 'big',
    },
  },
  {
    name: 'collection paused: bills stay drafts',
    steps: [buys('small'), changes({ pause_collection: { behavior: 'keep_as_draft' } }), MONTH],
    end: { balance: 30, entries: ['allocation 30'], status: 'active', plan: 'small' },
  },
  {
    name: 'collection paused: bills are void',
    steps: [buys('small'), changes({ pause_collection: { behavior: 'void' } }), MONTH],
    end: { balance: 30, entries: ['allocation 30'], status: 'active', plan: 'small' },
  },
  {
    name: 'collection paused: bills are given up',
    steps: [
      buys('small'),
      changes({ pause_collection: { behavior: 'mark_uncollectible' } }),
      MONTH,
    ],
    end: { balance: 30, entries: ['allocation 30'], status: 'active', plan: 'small' },
  },
  {
    name: 'paused, and not resumed',
    steps: [
      buys('small'),
      5,
      ({ stripe }, { subscription }) => stripe.subscriptions.pause(subscription),
      MONTH,
    ],
    end: {
      balance: 30,
      entries: ['allocation 30'],
      status: 'paused',
      plan: 'free',
      subscribed: 'small',
    },
  },
  {
    // Half of the period comes back as money, -500; a whole new one, 1000, is netted with it.
    name: 'paused at half time and resumed',
    steps: [
      buys('small'),
      15.5,
      ({ stripe }, { subscription }) => stripe.subscriptions.pause(subscription),
      5,
      ({ stripe }, { subscription }) =>
        stripe.subscriptions.resume(subscription, { billing_cycle_anchor: { type: 'now' } }),
    ],
    end: {
      balance: 45,
      entries: ['allocation 15', 'allocation 30'],
      status: 'active',
      plan: 'small',
    },
  },
  {
    name: 'half of a renewal is refunded',
    steps: [
      buys('small'),
      MONTH,
      async (given, { subscription }) => {
        const invoice = await latestInvoice(given, subscription);
        await given.sandbox.refund(invoice.id, { amount: 500 });
      },
    ],
    end: {
      balance: 45,
      entries: ['allocation 30', 'allocation 30', 'clawback -15'],
      status: 'active',
      plan: 'small',
    },
  },
  {
    name: 'a renewal is disputed',
    steps: [
      buys('small'),
      MONTH,
      async (given, { subscription }) =>
        given.sandbox.dispute((await latestInvoice(given, subscription)).id),
    ],
    end: {
      balance: 30,
      entries: ['allocation 30', 'allocation 30', 'clawback -30'],
      status: 'active',
      plan: 'small',
    },
  },
  {
    name: 'a customer deleted while subscribed keeps what was paid for',
    steps: [buys('small'), 3, ({ stripe }, { customer }) => stripe.customers.del(customer)],
    end: {
      balance: 30,
      entries: ['allocation 30'],
      status: 'canceled',
      plan: 'free',
      subscribed: 'small',
    },
  },
];

function endOf({ end }: Story): Omit<Standing, 'mirror'> & { mirror: unknown } {
  const { balance, entries, status, plan, quantity = 1, suspended = false } = end;
  const available = end.available ?? balance;
  return {
    balance,
    available,
    entries,
    subscription: { status, plan: end.subscribed ?? plan, quantity },
    plan,
    suspended,
    // A refusal while suspended is asked of the ledger, so that nobody is told what is not so.
    mirror: { balance, available, source: available === 0 ? 'ledger' : 'redis' },
  };
}

let stories = 0;

/** Half of July is 15.5 days, and August is as long. */
async function advanceToJuly(): Promise<void> {
  const { now } = await world.sandbox.clock();
  const date = new Date(now * 1000);
  const july = (year: number) => Date.UTC(year, 6, 1) / 1000;
  const year = date.getUTCFullYear();
  await world.sandbox.advance({ to: july(year) > now ? july(year) : july(year + 1) });
}

it.each(STORIES.map((story) => [story.name, story] as const))(
  '%s',
  async (_name, story) => {
    stories += 1;
    await advanceToJuly();
    const subscribers: Subscriber[] = [];
    for (let seed = 0; seed <= SEEDS; seed += 1) {
      subscribers.push(await newSubscriber(world, userId(`story-${stories}-${seed}`)));
    }
    const happened = new Map<string, string[]>();
    const [live] = subscribers;
    if (live === undefined) throw new Error('There is at least one subscriber.');
    async function hear(): Promise<void> {
      const heard = await readEvents();
      for (const { customer } of subscribers) {
        const ids = (heard.get(customer) ?? []).map(({ id }) => id);
        happened.set(customer, [...(happened.get(customer) ?? []), ...ids]);
      }
      await deliverAll(world, heard.get(live?.customer ?? '') ?? []);
    }
    for (const step of story.steps) {
      if (typeof step === 'number')
        await world.sandbox.advance({ seconds: Math.round(step * 86_400) });
      else for (const subscriber of subscribers) await step(world, subscriber);
      await hear();
    }
    await world.sandbox.setSettings({ after_last_retry: 'cancel' });
    expect(await standingOf(world, live)).toEqual(endOf(story));
    for (const [index, subscriber] of subscribers.slice(1).entries()) {
      const how = { seed: index + 1, form: FORMS[index % FORMS.length] ?? 'new' };
      const ids = happened.get(subscriber.customer) ?? [];
      const events = await Promise.all(ids.map((id) => told.of(id, how.form)));
      await deliverAll(world, shuffledAndDoubled(events, how.seed));
      expect({ ...how, ...(await standingOf(world, subscriber)) }).toEqual({
        ...how,
        ...endOf(story),
      });
    }
    // Renewals of the stories told so far would only cost time.
    for (const { subscription } of subscribers) {
      const { status } = await world.stripe.subscriptions.retrieve(subscription);
      if (status !== 'canceled') await world.stripe.subscriptions.cancel(subscription);
    }
    const troubled = await database.current.query(
      `select event_type, status, error_message from stripe_webhook_events
       where status in ('failed', 'dead', 'parked')`,
    );
    expect(troubled).toEqual([]);
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
  },
  TEST_MS_MAX,
);

it(
  'credits of a plan that does not roll over end with the period they were paid for',
  async () => {
    // Ahead of today: what has ended before it is written lives three days all the same.
    do await advanceToJuly();
    while ((await world.sandbox.clock()).now * 1000 < Date.now());
    const subscriber = await newSubscriber(world, userId('fleeting'));
    const hear = async () => deliverAll(world, (await readEvents()).get(subscriber.customer) ?? []);
    const lots = () =>
      database.current.query<{ remaining: number; ends: number }>(
        `select remaining::int, extract(epoch from expires_at)::float8 as ends
         from credit_grants where user_id = $1 order by id`,
        [subscriber.user],
      );
    const renewsAt = async () => {
      const { items } = await world.stripe.subscriptions.retrieve(subscriber.subscription);
      return items.data[0]?.current_period_end ?? 0;
    };
    await buys('fleeting')(world, subscriber);
    await hear();
    const first = await renewsAt();
    expect(await lots()).toEqual([{ remaining: 30, ends: first }]);
    await world.sandbox.advance({ seconds: Math.round(MONTH * 86_400) });
    await hear();
    const second = await renewsAt();
    expect(await lots()).toEqual([
      { remaining: 30, ends: first },
      { remaining: 30, ends: second },
    ]);
    // The database's own clock has not come that far: what is due is ended as of then.
    await database.current.query(`select expire_due_credits(200, to_timestamp($1))`, [first]);
    expect(await lots()).toEqual([
      { remaining: 0, ends: first },
      { remaining: 30, ends: second },
    ]);
    expect(await standingOf(world, subscriber)).toMatchObject({
      balance: 30,
      entries: ['allocation 30', 'allocation 30', 'expiration -30'],
    });
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
  },
  TEST_MS_MAX,
);
