/**
 * What the ledger of the virtual year must say, from Stripe's objects alone and without a line of
 * the product: sessions, invoices with their lines and payments, refunds, disputes.
 */
import type Stripe from 'stripe';

/** Of one user. Credits, all of them positive numbers. */
export interface ExpectedCredits {
  granted: number;
  /** Taken back and not returned. */
  clawedBack: number;
  settlements: ExpectedSettlement[];
}

export interface ExpectedSettlement {
  /** The session's or the invoice's id. */
  id: string;
  granted: number;
  clawedBack: number;
  /** All that paid for it, in cents. */
  settled: number;
  /** Ids of what paid, of refunds and disputes with their states, for whoever looks for an error. */
  objects: string[];
}

interface Worth {
  credits: number;
  unitAmount: number;
}

export type PriceList = ReadonlyMap<string, Worth>;

/** Of a payment intent: what counts as gone back. */
interface GoneBack {
  amount: number;
  objects: string[];
}

const LISTED_MAX = 10_000;
/** `warning_...` and `prevented` took no money, `won` returned it. */
const DISPUTES_THAT_COUNT: readonly string[] = [
  'needs_response',
  'under_review',
  'lost',
  'appeal_needs_response',
  'appeal_under_review',
];

const idOf = (reference: string | { id: string } | null | undefined): string | null =>
  typeof reference === 'object' ? (reference?.id ?? null) : (reference ?? null);

/** By payment intent: read once for everybody. */
export async function readMoneyBack(stripe: Stripe): Promise<Map<string, GoneBack>> {
  const back = new Map<string, GoneBack>();
  const add = (intent: string | null, amount: number, object: string) => {
    if (intent === null) throw new Error(`${object} is of no payment intent.`);
    const before = back.get(intent) ?? { amount: 0, objects: [] };
    back.set(intent, {
      amount: before.amount + amount,
      objects: [...before.objects, object],
    });
  };
  for await (const { id, status, amount, payment_intent: intent } of stripe.refunds.list({
    limit: 100,
  })) {
    add(idOf(intent), status === 'succeeded' ? amount : 0, `${id} ${status} ${amount}`);
  }
  for await (const { id, status, amount, payment_intent: intent } of stripe.disputes.list({
    limit: 100,
  })) {
    const counts = DISPUTES_THAT_COUNT.includes(status);
    add(idOf(intent), counts ? amount : 0, `${id} ${status} ${amount}`);
  }
  return back;
}

/** What a customer's objects are worth. */
export async function expectedOf(
  stripe: Stripe,
  prices: PriceList,
  moneyBack: ReadonlyMap<string, GoneBack>,
  customer: string,
): Promise<ExpectedCredits> {
  const settlements: ExpectedSettlement[] = [];
  const invoicesOfSessions = new Set<string>();
  const sessions = await stripe.checkout.sessions
    .list({ customer, limit: 100 })
    .autoPagingToArray({ limit: LISTED_MAX });
  for (const session of sessions) {
    if (session.mode !== 'payment') continue;
    const invoice = idOf(session.invoice);
    if (invoice !== null) invoicesOfSessions.add(invoice);
    if (session.status !== 'complete' || session.payment_status === 'unpaid') continue;
    const items = await stripe.checkout.sessions.listLineItems(session.id, { limit: 100 });
    const granted = items.data.reduce(
      (sum, { price, quantity }) => sum + worth(prices, idOf(price)).credits * (quantity ?? 1),
      0,
    );
    const intent = idOf(session.payment_intent);
    const paid = intent === null ? [] : [{ id: intent, paid: session.amount_total ?? 0 }];
    settlements.push(settle(session.id, granted, paid, 0, moneyBack));
  }
  const invoices = await stripe.invoices
    .list({ customer, status: 'paid', limit: 100 })
    .autoPagingToArray({ limit: LISTED_MAX });
  for (const invoice of invoices) {
    if (invoicesOfSessions.has(invoice.id)) continue;
    const lines = await stripe.invoices
      .listLineItems(invoice.id, { limit: 100 })
      .autoPagingToArray({ limit: LISTED_MAX });
    const { data: payments } = await stripe.invoicePayments.list({
      invoice: invoice.id,
      status: 'paid',
      limit: 100,
    });
    const paid = payments.map(({ id, payment, amount_paid: amount }) => ({
      id: idOf(payment.payment_intent) ?? id,
      paid: amount ?? 0,
    }));
    // A credit of the customer is a negative balance; what is left of it was not used here.
    const credit = Math.max(0, -invoice.starting_balance);
    const left = Math.max(0, -(invoice.ending_balance ?? invoice.starting_balance));
    const used = Math.max(0, credit - left);
    settlements.push(settle(invoice.id, creditsOfLines(prices, lines), paid, used, moneyBack));
  }
  return {
    granted: settlements.reduce((sum, { granted }) => sum + granted, 0),
    clawedBack: settlements.reduce((sum, { clawedBack }) => sum + clawedBack, 0),
    settlements,
  };
}

function worth(prices: PriceList, price: string | null): Worth {
  const found = prices.get(price ?? '');
  if (found === undefined) throw new Error(`The year sold ${price}, which is not on the list.`);
  return found;
}

/** Credits follow money: one exact sum, floored once, never below nothing. */
function creditsOfLines(prices: PriceList, lines: Stripe.InvoiceLineItem[]): number {
  // Over the product of all unit amounts on the list, every line is a whole number.
  const scale = [...prices.values()].reduce((all, { unitAmount }) => all * BigInt(unitAmount), 1n);
  let sum = 0n;
  for (const { amount, pricing } of lines) {
    const { credits, unitAmount } = worth(prices, idOf(pricing?.price_details?.price));
    sum += (BigInt(credits) * BigInt(amount) * scale) / BigInt(unitAmount);
  }
  return sum <= 0n ? 0 : Number(sum / scale);
}

function settle(
  id: string,
  granted: number,
  paid: { id: string; paid: number }[],
  balanceUsed: number,
  moneyBack: ReadonlyMap<string, GoneBack>,
): ExpectedSettlement {
  const settled = paid.reduce((sum, { paid: amount }) => sum + amount, balanceUsed);
  const byPayment = new Map<string, number>();
  for (const { id: payment, paid: amount } of paid) {
    byPayment.set(payment, (byPayment.get(payment) ?? 0) + amount);
  }
  let back = 0;
  const objects: string[] = [];
  for (const [payment, amount] of byPayment) {
    const gone = moneyBack.get(payment);
    back += Math.min(amount, gone?.amount ?? 0);
    objects.push(`${payment} paid ${amount}`, ...(gone?.objects ?? []));
  }
  if (balanceUsed > 0) objects.push(`balance used ${balanceUsed}`);
  const share = BigInt(granted) * BigInt(Math.min(settled, back));
  const clawedBack = settled === 0 ? 0 : Number(share / BigInt(settled));
  return { id, granted, clawedBack, settled, objects };
}
