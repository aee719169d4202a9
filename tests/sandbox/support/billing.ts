import type Stripe from 'stripe';
import type { SandboxOptions } from '../../../src/sandbox/index.ts';
import { type TestSandbox, testSandbox } from './sandbox.ts';

/** A month end, so that every test meets short months. */
export const START = Date.UTC(2026, 0, 31, 12) / 1_000;
export const DAY = 86_400;

const monthly = { interval: 'month' as const };
const plan = (id: string, amount: number, recurring: object = monthly) => ({
  id,
  product: 'prod_plan',
  currency: 'usd',
  unit_amount: amount,
  recurring: recurring as typeof monthly,
});

/** A sandbox whose time moves only by `advance`, with plans. */
export async function billingSandbox(options: SandboxOptions = {}): Promise<TestSandbox> {
  const sandbox = await testSandbox({ now: () => START * 1_000, ...options });
  await sandbox.seedCatalogue({
    products: [
      { id: 'prod_plan', name: 'Individual' },
      { id: 'prod_pack_50', name: '50 credits' },
    ],
    prices: [
      plan('price_small', 1_000),
      plan('price_big', 3_000),
      plan('price_zero', 0),
      plan('price_year', 9_000, { interval: 'year' }),
      { id: 'price_pack_50', product: 'prod_pack_50', currency: 'usd', unit_amount: 500 },
    ],
  });
  return sandbox;
}

/** A customer with a default card; `pm_card_visa` and its like. */
export function customerWith(
  { stripe }: TestSandbox,
  card: string | null = 'pm_card_visa',
): Promise<Stripe.Customer> {
  return stripe.customers.create({
    email: 'ada@example.com',
    ...(card === null
      ? {}
      : { payment_method: card, invoice_settings: { default_payment_method: card } }),
  });
}

/** A running subscription of a new customer. */
export async function subscribed(
  sandbox: TestSandbox,
  more: Partial<Stripe.SubscriptionCreateParams> = {},
  card: string | null = 'pm_card_visa',
): Promise<Stripe.Subscription> {
  const customer = await customerWith(sandbox, card);
  return sandbox.stripe.subscriptions.create({
    customer: customer.id,
    items: [{ price: 'price_small' }],
    ...more,
  });
}

/** Types of the events since `after` (an event id), oldest first, without the catalogue's. */
export async function eventsSince(
  { stripe }: TestSandbox,
  after: string | null = null,
): Promise<Stripe.Event[]> {
  const all: Stripe.Event[] = [];
  for await (const event of stripe.events.list({ limit: 100 })) {
    if (event.id === after) break;
    all.unshift(event);
  }
  return all.filter(({ type }) => !/^(product|price)\./.test(type));
}

export async function lastEvent({ stripe }: TestSandbox): Promise<string> {
  return (await stripe.events.list({ limit: 1 })).data[0]?.id ?? '';
}

export async function invoicesOf(
  { stripe }: TestSandbox,
  subscription: string,
): Promise<Stripe.Invoice[]> {
  const list = await stripe.invoices.list({ subscription, limit: 100 });
  return list.data.reverse();
}
