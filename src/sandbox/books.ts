import type { Context } from './context.ts';
import type { BalanceTransactionView } from './resources/balanceTransactions.ts';
import type { ChargeView } from './resources/charges.ts';
import { holdsMoney } from './resources/disputes.ts';
import type { DisputeView } from './resources/disputeView.ts';
import type { RefundView } from './resources/refundView.ts';
import {
  balances,
  balanceTransactions,
  charges,
  creditNotes,
  customerBalanceTransactions,
  customers,
  disputes,
  invoicePayments,
  invoices,
  paymentIntents,
  refunds,
  sessions,
} from './tables.ts';

/** What objects of one kind say must be what those of another say. Empty when all agree. */
export interface BookReport {
  readonly checked: number;
  readonly contradictions: readonly string[];
}

/** Contradictions named in one report; more of them say nothing new. */
const CONTRADICTIONS_MAX = 50;

/**
 * Compares everything in the store that speaks of the same money: balance transactions with the
 * balance, charges, refunds and disputes; charges with their refunds and intents; invoices with
 * their payments, lines and credit notes; sessions with their intents; customers with their balance.
 */
export function checkBooks(ctx: Context): BookReport {
  const contradictions: string[] = [];
  let checked = 0;
  const claim: Claim = (subject, what, found, expected) => {
    checked += 1;
    if (found === expected || contradictions.length >= CONTRADICTIONS_MAX) return;
    contradictions.push(`${subject}: ${what} is ${String(found)}, not ${String(expected)}`);
  };
  const money = groupBy(all(ctx, balanceTransactions), ({ source }) => source);
  const refundsOf = groupBy(all(ctx, refunds), ({ charge }) => charge);
  const disputesOf = groupBy(all(ctx, disputes), ({ charge }) => charge);

  checkBalances(ctx, claim);
  for (const charge of all(ctx, charges)) {
    checkCharge(charge, money.get(charge.id) ?? [], claim);
    checkMoneyBack(charge, refundsOf.get(charge.id) ?? [], disputesOf.get(charge.id) ?? [], claim);
  }
  for (const refund of all(ctx, refunds)) checkRefund(refund, money.get(refund.id) ?? [], claim);
  for (const dispute of all(ctx, disputes)) {
    checkDispute(dispute, money.get(dispute.id) ?? [], claim);
  }
  checkIntents(ctx, claim);
  checkInvoices(ctx, claim);
  checkCustomers(ctx, claim);
  return { checked, contradictions };
}

type Claim = (subject: string, what: string, found: unknown, expected: unknown) => void;

function checkBalances(ctx: Context, claim: Claim): void {
  const byCurrency = groupBy(all(ctx, balanceTransactions), ({ currency }) => currency);
  for (const { id, amount } of all(ctx, balances)) {
    claim(`balance ${id}`, 'amount', amount, total(byCurrency.get(id) ?? []));
  }
  claim('balances', 'count', ctx.store.size(balances), byCurrency.size);
}

function checkCharge(charge: ChargeView, money: BalanceTransactionView[], claim: Claim): void {
  const { id, status, amount_captured: captured } = charge;
  const came = status === 'succeeded' ? captured : 0;
  claim(id, 'sum of its balance transactions', total(money), came);
  claim(id, 'balance_transaction', charge.balance_transaction, money[0]?.id ?? null);
  claim(id, 'count of its balance transactions', money.length, status === 'succeeded' ? 1 : 0);
  claim(id, 'paid', charge.paid, status === 'succeeded');
}

function checkMoneyBack(
  charge: ChargeView,
  made: readonly RefundView[],
  disputed: readonly DisputeView[],
  claim: Claim,
): void {
  const { id, amount_captured: captured, amount_refunded: refunded } = charge;
  const counted = made.filter(({ status }) => status !== 'failed' && status !== 'canceled');
  claim(id, 'amount_refunded', refunded, total(counted));
  claim(id, 'refunded', charge.refunded, refunded > 0 && refunded === captured);
  claim(id, 'amount_refunded within what was captured', refunded <= captured, true);
  claim(id, 'disputed', charge.disputed, disputed.length > 0);
  const holding = disputed.filter(({ status }) => holdsMoney(status));
  claim(id, 'at most one dispute that holds money', holding.length <= 1, true);
}

function checkRefund(refund: RefundView, money: BalanceTransactionView[], claim: Claim): void {
  const over = refund.status === 'failed' || refund.status === 'canceled';
  claim(refund.id, 'sum of its balance transactions', total(money), over ? 0 : -refund.amount);
  claim(refund.id, 'balance_transaction', refund.balance_transaction, money[0]?.id);
  claim(
    refund.id,
    'failure_balance_transaction',
    refund.failure_balance_transaction,
    over ? money[1]?.id : undefined,
  );
}

function checkDispute(dispute: DisputeView, money: BalanceTransactionView[], claim: Claim): void {
  const { id, status, amount } = dispute;
  claim(id, 'sum of its balance transactions', total(money), holdsMoney(status) ? -amount : 0);
  const shown = dispute.balance_transactions.map((one) => one.id).join();
  claim(id, 'balance_transactions', shown, money.map((one) => one.id).join());
}

function checkIntents(ctx: Context, claim: Claim): void {
  const succeeded = groupBy(
    all(ctx, charges).filter(({ status }) => status === 'succeeded'),
    ({ payment_intent }) => String(payment_intent),
  );
  for (const intent of all(ctx, paymentIntents)) {
    const paid = succeeded.get(intent.id) ?? [];
    claim(intent.id, 'count of charges that succeeded', paid.length <= 1, true);
    claim(intent.id, 'amount_received', intent.amount_received, total(paid));
    claim(intent.id, 'succeeded', intent.status === 'succeeded', paid.length === 1);
  }
  for (const session of all(ctx, sessions)) {
    if (session.payment_status !== 'paid' || session.payment_intent === null) continue;
    const intent = ctx.store.get(paymentIntents, session.payment_intent)?.view;
    claim(session.id, 'amount_total', session.amount_total, intent?.amount_received);
  }
}

function checkInvoices(ctx: Context, claim: Claim): void {
  const paymentsOf = groupBy(all(ctx, invoicePayments), ({ invoice }) => invoice);
  const notesOf = groupBy(all(ctx, creditNotes), ({ invoice }) => invoice);
  for (const { view: invoice, hidden } of ctx.store.walk(invoices, 'oldest_first')) {
    const { id } = invoice;
    const paid = (paymentsOf.get(id) ?? []).filter(({ status }) => status === 'paid');
    const notes = (notesOf.get(id) ?? []).filter(({ status }) => status === 'issued');
    const pre = notes.reduce((sum, note) => sum + note.pre_payment_amount, 0);
    const post = notes.reduce((sum, note) => sum + note.post_payment_amount, 0);
    const received = paid.reduce((sum, payment) => sum + (payment.amount_paid ?? 0), 0);
    // What the customer's balance took over at finalisation, in either direction.
    const balanced =
      invoice.ending_balance === null ? 0 : invoice.starting_balance - invoice.ending_balance;
    const before = invoice.status === 'draft' ? Math.max(0, invoice.total) : invoice.total;
    claim(id, 'subtotal', invoice.subtotal, total(hidden.lines));
    claim(id, 'total', invoice.total, invoice.subtotal - total(invoice.total_discount_amounts));
    claim(id, 'amount_paid', invoice.amount_paid, received + invoice.amount_paid_off_stripe);
    claim(id, 'amount_due', invoice.amount_due, before + balanced - pre);
    claim(
      id,
      'amount_remaining',
      invoice.amount_remaining,
      Math.max(0, invoice.amount_due - invoice.amount_paid),
    );
    if (invoice.status === 'paid') claim(id, 'amount_remaining', invoice.amount_remaining, 0);
    claim(id, 'credit notes before payment', invoice.pre_payment_credit_notes_amount, pre);
    claim(id, 'credit notes after payment', invoice.post_payment_credit_notes_amount, post);
    claim(id, 'credit notes within the total', pre + post <= Math.max(0, invoice.total), true);
  }
  for (const note of all(ctx, creditNotes)) {
    const credited = ctx.store.get(
      customerBalanceTransactions,
      note.customer_balance_transaction ?? '',
    )?.view;
    const parts =
      sumOf(note.refunds, 'amount_refunded') +
      (note.out_of_band_amount ?? 0) -
      (credited?.amount ?? 0);
    claim(note.id, 'parts after payment', parts, note.post_payment_amount);
    claim(note.id, 'total', note.total, note.pre_payment_amount + note.post_payment_amount);
    for (const { refund, amount_refunded } of note.refunds) {
      const made = ctx.store.get(refunds, refund)?.view;
      claim(note.id, `${refund} within its amount`, amount_refunded <= (made?.amount ?? 0), true);
    }
  }
}

function checkCustomers(ctx: Context, claim: Claim): void {
  for (const { view: customer } of ctx.store.walk(customers, 'oldest_first')) {
    if ('deleted' in customer) continue;
    const changes = ctx.store
      .lookUp(customerBalanceTransactions, 'customer', customer.id)
      .map(({ view }) => view);
    claim(customer.id, 'balance', customer.balance, total(changes));
    claim(
      customer.id,
      'last ending_balance',
      changes.at(-1)?.ending_balance ?? 0,
      customer.balance,
    );
  }
}

function all<V extends { id: string; object: string }, H>(
  ctx: Context,
  from: Parameters<typeof ctx.store.walk<V, H>>[0],
): V[] {
  return [...ctx.store.walk(from, 'oldest_first')].map(({ view }) => view);
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

function total(items: readonly { readonly amount: number }[]): number {
  return sumOf(items, 'amount');
}

function sumOf<K extends string>(items: readonly { readonly [key in K]: number }[], field: K) {
  return items.reduce((sum, item) => sum + item[field], 0);
}
