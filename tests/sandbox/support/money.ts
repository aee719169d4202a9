import type Stripe from 'stripe';
import { openSession, type TestSandbox } from './sandbox.ts';

/** Three packs bought: a charge of $15.00. */
export async function paidCharge(
  sandbox: TestSandbox,
  pay: Parameters<TestSandbox['pay']>[1] = {},
  more: Partial<Stripe.Checkout.SessionCreateParams> = {},
): Promise<{ session: Stripe.Checkout.Session; intent: string; charge: Stripe.Charge }> {
  const open = await openSession(sandbox, {
    line_items: [{ price: 'price_pack_50', quantity: 3 }],
    ...more,
  });
  await sandbox.pay(open.id, pay);
  const session = await sandbox.stripe.checkout.sessions.retrieve(open.id);
  const intent = String(session.payment_intent);
  const [charge] = (await sandbox.stripe.charges.list({ payment_intent: intent })).data;
  if (!charge) throw new Error(`Session ${open.id} was not charged.`);
  return { session, intent, charge };
}

/** What `work` made the sandbox tell, oldest first. */
export async function eventsOf(
  { stripe }: TestSandbox,
  work: () => Promise<unknown>,
): Promise<Stripe.Event[]> {
  const [last] = (await stripe.events.list({ limit: 1 })).data;
  await work();
  const told: Stripe.Event[] = [];
  for await (const event of stripe.events.list({ limit: 100 })) {
    if (event.id === last?.id) break;
    told.unshift(event);
  }
  return told;
}

export function typesOf(events: readonly Stripe.Event[]): string[] {
  return events.map(({ type }) => type);
}

/** The money the account has, in cents of a dollar, and the sum of its balance transactions. */
export async function balanceOf({ stripe }: TestSandbox): Promise<[balance: number, sum: number]> {
  let sum = 0;
  for await (const { net } of stripe.balanceTransactions.list({ limit: 100 })) sum += net;
  const { available } = await stripe.balance.retrieve();
  return [available[0]?.amount ?? Number.NaN, sum];
}
