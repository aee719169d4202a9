import Stripe from 'stripe';
import type { Sandbox } from '../../src/sandbox/index.ts';

const DAYS = 365;
/** New customers come in the first four weeks, so that every day has renewals. */
const JOINING_DAYS = 28;

const monthly = { interval: 'month' } as const;
const CATALOGUE = {
  products: [
    { id: 'prod_small', name: 'Individual' },
    { id: 'prod_big', name: 'Professional' },
  ],
  prices: [
    {
      id: 'price_small',
      product: 'prod_small',
      currency: 'usd',
      unit_amount: 999,
      recurring: monthly,
    },
    {
      id: 'price_big',
      product: 'prod_big',
      currency: 'usd',
      unit_amount: 2_999,
      recurring: monthly,
    },
  ],
};

const REFUSING_CARD = '4000000000000341';
const PAYING_CARD = '4242424242424242';

type Fate = 'stays' | 'upgrades' | 'downgrades' | 'leaves' | 'quits' | 'card_fails' | 'card_mended';

/** What becomes of the nth customer, and on which day: the same in every run. */
function fateOf(nth: number): { fate: Fate; day: number } {
  const roll = (nth * 37 + 11) % 100;
  const day = JOINING_DAYS + 10 + ((nth * 53) % (DAYS - JOINING_DAYS - 60));
  if (roll < 60) return { fate: 'stays', day };
  if (roll < 72) return { fate: 'upgrades', day };
  if (roll < 78) return { fate: 'downgrades', day };
  if (roll < 86) return { fate: 'leaves', day };
  if (roll < 90) return { fate: 'quits', day };
  return { fate: roll < 95 ? 'card_fails' : 'card_mended', day };
}

interface Member {
  readonly customer: string;
  readonly subscription: string;
  readonly fate: Fate;
  /** Counted from the start. */
  readonly day: number;
}

export interface YearReport {
  readonly customers: number;
  readonly tasks: number;
  readonly active: number;
  readonly canceled: number;
  readonly revenue: number;
}

/**
 * A year of monthly plans day by day, without webhooks: people join, change their plan, leave, and
 * have cards that stop paying. The sandbox's clock must be frozen.
 */
export async function simulateYear(
  sandbox: Sandbox,
  customers: number,
  onDay: (day: number, tasks: number) => void = () => {},
): Promise<YearReport> {
  const { host, port, secretKey } = sandbox;
  const stripe = new Stripe(secretKey, {
    host,
    port,
    protocol: 'http',
    telemetry: false,
  });
  await sandbox.setSettings({ deliveries: 'off' });
  await sandbox.seedCatalogue(CATALOGUE);
  const members: Member[] = [];
  let tasks = 0;
  for (let day = 0; day < DAYS; day += 1) {
    for (let nth = day; day < JOINING_DAYS && nth < customers; nth += JOINING_DAYS) {
      members.push(await join(sandbox, stripe, nth));
    }
    for (const member of members) await live(sandbox, stripe, member, day);
    tasks += (await sandbox.advance({ days: 1 })).tasks;
    onDay(day + 1, tasks);
  }
  const balance = await stripe.balance.retrieve();
  const states: Stripe.Subscription[] = [];
  for (const { subscription } of members) {
    states.push(await stripe.subscriptions.retrieve(subscription));
  }
  return {
    customers,
    tasks,
    active: states.filter(({ status }) => status === 'active').length,
    canceled: states.filter(({ status }) => status === 'canceled').length,
    revenue: balance.available.reduce((sum, { amount }) => sum + amount, 0),
  };
}

async function join(sandbox: Sandbox, stripe: Stripe, nth: number): Promise<Member> {
  const { fate, day } = fateOf(nth);
  const { id: customer } = await stripe.customers.create(
    { email: `member-${nth}@example.com` },
    keyed(`join-${nth}`),
  );
  await sandbox.buy({ price: fate === 'downgrades' ? 'price_big' : 'price_small', customer });
  const { data } = await stripe.subscriptions.list({ customer, limit: 1 });
  return { customer, subscription: String(data[0]?.id), fate, day };
}

/** The SDK's own idempotency keys are made at random, and no year would be the same. */
function keyed(idempotencyKey: string): { idempotencyKey: string } {
  return { idempotencyKey };
}

async function live(sandbox: Sandbox, stripe: Stripe, member: Member, day: number): Promise<void> {
  const { customer, subscription, fate } = member;
  if (fate === 'card_mended' && day === member.day + 33) {
    await sandbox.setCard(customer, PAYING_CARD);
    return;
  }
  if (day !== member.day) return;
  const key = keyed(`${fate}-${subscription}`);
  switch (fate) {
    case 'stays':
      return;
    case 'upgrades':
    case 'downgrades': {
      const { items } = await stripe.subscriptions.retrieve(subscription);
      const price = fate === 'upgrades' ? 'price_big' : 'price_small';
      await stripe.subscriptions.update(
        subscription,
        {
          items: [{ id: String(items.data[0]?.id), price }],
          proration_behavior: fate === 'upgrades' ? 'always_invoice' : 'create_prorations',
        },
        key,
      );
      return;
    }
    case 'leaves':
      await stripe.subscriptions.update(subscription, { cancel_at_period_end: true }, key);
      return;
    case 'quits':
      await stripe.subscriptions.cancel(subscription, {}, key);
      return;
    case 'card_fails':
    case 'card_mended':
      await sandbox.setCard(customer, REFUSING_CARD);
  }
}
