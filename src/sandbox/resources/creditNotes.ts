import { changeBalance } from '../billing/customerBalance.ts';
import { findInvoice, updateInvoice } from '../billing/finalizeInvoice.ts';
import { settleInvoice } from '../billing/payInvoice.ts';
import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listItems, listRows, matchesFilter } from '../listing.ts';
import { formatAmount } from '../money.ts';
import { expand, type Parsed, paging } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { creditNotes, customerBalanceTransactions, invoices } from '../tables.ts';
import { creditNoteLines } from './creditNoteLines.ts';
import {
  creditNoteListParams,
  creditNoteParams,
  creditNoteUpdateParams,
  previewLinesParams,
} from './creditNoteParams.ts';
import {
  type CreditNoteView,
  creditNoteView,
  type LinkedRefund,
  type Shares,
} from './creditNoteView.ts';
import { expandCustomer } from './customers.ts';
import { applyMetadata } from './fields.ts';
import { chargesOfInvoice } from './invoicePayments.ts';
import type { InvoiceView } from './invoiceView.ts';
import { createRefund, findRefund } from './refunds.ts';

type Given = Omit<Parsed<typeof creditNoteParams>, 'expand'>;

/** What is credited and where it goes, without doing anything yet. */
function plan(ctx: Context, given: Given) {
  const { view: invoice, hidden } = findInvoice(ctx, given.invoice, 'invoice', 400);
  if (invoice.status === 'draft' || invoice.status === 'void') {
    throw badRequest(
      `Invoice ${invoice.id} is ${invoice.status}: credit notes can only be issued for finalized invoices.`,
      { param: 'invoice', code: 'invoice_not_editable' },
    );
  }
  const lines = creditNoteLines(ctx, invoice, hidden.lines, given);
  const total = lines.reduce((sum, line) => sum + line.amount - line.discount_amount, 0);
  const all = creditNotesOf(ctx, invoice.id);
  const earlier = all.filter(({ status }) => status === 'issued');
  const left = invoice.total - earlier.reduce((sum, note) => sum + note.total, 0);
  const money = (amount: number) => formatAmount(amount, invoice.currency);
  if (total > left) {
    throw badRequest(
      `The credit note's total of ${money(total)} is more than what is left to credit on this invoice: ${money(left)}.`,
      { param: given.lines ? 'lines' : 'amount' },
    );
  }
  const pre = invoice.status === 'paid' ? 0 : Math.min(total, invoice.amount_remaining);
  const linked = (given.refunds ?? []).map((item, at) => linkRefund(ctx, invoice, item, at));
  const credit = given.credit_amount ?? 0;
  const outOfBand = given.out_of_band_amount ?? 0;
  const refund = given.refund_amount ?? 0;
  const given_ = linked.reduce(
    (sum, one) => sum + one.amount_refunded,
    credit + outOfBand + refund,
  );
  if (given_ !== total - pre) {
    throw badRequest(
      `The sum of \`refund_amount\`, \`credit_amount\`, \`out_of_band_amount\` and \`refunds\` is ${money(given_)} and must be ${money(total - pre)}, the part of the credit note that was paid already.`,
      { param: 'refund_amount' },
    );
  }
  const shares: Shares = { pre_payment: pre, refunds: linked, credit, out_of_band: outOfBand };
  return { invoice, lines, shares, refund, number: all.length + 1 };
}

function linkRefund(
  ctx: Context,
  invoice: InvoiceView,
  given: NonNullable<Given['refunds']>[number],
  at: number,
): LinkedRefund {
  const param = `refunds[${at}][refund]`;
  const refund = findRefund(ctx, given.refund, 400).view;
  if (!chargesOfInvoice(ctx, invoice.id).some(({ id }) => id === refund.charge)) {
    throw badRequest(`Refund ${refund.id} does not belong to invoice ${invoice.id}.`, { param });
  }
  const used = creditNotesOf(ctx, invoice.id)
    .flatMap((note) => note.refunds)
    .filter((link) => link.refund === refund.id)
    .reduce((sum, link) => sum + link.amount_refunded, 0);
  const amount = given.amount_refunded ?? refund.amount - used;
  if (amount > refund.amount - used || amount === 0) {
    throw badRequest(
      `Refund ${refund.id} has ${refund.amount - used} left that no credit note names.`,
      { param },
    );
  }
  return {
    amount_refunded: amount,
    payment_record_refund: null,
    refund: refund.id,
    type: 'refund',
  };
}

function createCreditNote(ctx: Context, given: Given): CreditNoteView {
  const { invoice, lines, shares, refund, number } = plan(ctx, given);
  const made = refund === 0 ? [] : refundPayments(ctx, invoice, refund);
  const parts = { ...shares, refunds: [...shares.refunds, ...made] };
  const first = draft(ctx, given, invoice, lines, number, parts);
  const view = { ...first, customer_balance_transaction: creditCustomer(ctx, first, shares) };
  add(ctx, creditNotes, view, { lines });
  emit(ctx, 'credit_note.created', view);
  creditInvoice(ctx, invoice.id, view.pre_payment_amount, view.post_payment_amount);
  return view;
}

function creditCustomer(ctx: Context, note: CreditNoteView, { credit }: Shares): string | null {
  if (credit === 0) return null;
  return changeBalance(ctx, {
    customer: note.customer,
    currency: note.currency,
    amount: -credit,
    type: 'credit_note',
    invoice: note.invoice,
    creditNote: note.id,
  }).id;
}

function draft(
  ctx: Context,
  given: Given,
  invoice: InvoiceView,
  lines: ReturnType<typeof plan>['lines'],
  number: number,
  shares: Shares,
): CreditNoteView {
  return creditNoteView(ctx, invoice, {
    lines,
    shares,
    number: `${invoice.number ?? invoice.id}-CN-${String(number).padStart(2, '0')}`,
    memo: given.memo ?? null,
    metadata: applyMetadata({}, given.metadata),
    reason: given.reason ?? null,
    effective_at: given.effective_at ?? null,
    customer_balance_transaction: null,
  });
}

/** From the latest payment backwards, as much of each as is left of it. */
function refundPayments(ctx: Context, invoice: InvoiceView, amount: number): LinkedRefund[] {
  let left = amount;
  const made: LinkedRefund[] = [];
  for (const charge of chargesOfInvoice(ctx, invoice.id)) {
    const part = Math.min(left, charge.amount_captured - charge.amount_refunded);
    if (part === 0) continue;
    const { id } = createRefund(ctx, charge, { amount: part, reason: 'requested_by_customer' });
    made.push({ amount_refunded: part, payment_record_refund: null, refund: id, type: 'refund' });
    left -= part;
  }
  if (left > 0) {
    throw badRequest(
      `\`refund_amount\` is ${formatAmount(left, invoice.currency)} more than what the payments of this invoice have left to refund.`,
      { param: 'refund_amount' },
    );
  }
  return made;
}

/** Signed: a voided note takes its part of the open amount back. With nothing left it is paid. */
function creditInvoice(ctx: Context, id: string, pre: number, post: number): void {
  const { view: before } = findInvoice(ctx, id);
  const view = updateInvoice(ctx, id, {
    amount_due: before.amount_due - pre,
    amount_remaining: before.amount_remaining - pre,
    pre_payment_credit_notes_amount: before.pre_payment_credit_notes_amount + pre,
    post_payment_credit_notes_amount: before.post_payment_credit_notes_amount + post,
  });
  if (before.status === 'paid' || view.amount_remaining > 0) return;
  settleInvoice(ctx, id);
}

function voidCreditNote(ctx: Context, id: string): CreditNoteView {
  const { view: before } = findCreditNote(ctx, id);
  const invoice = findInvoice(ctx, before.invoice).view;
  if (before.status === 'void' || before.type !== 'pre_payment' || invoice.status !== 'open') {
    throw badRequest(
      `Credit note ${id} cannot be voided: only an issued note of an open invoice can (it is ${before.status}, its invoice ${invoice.status}).`,
      { code: 'credit_note_unexpected_state' },
    );
  }
  const { view } = ctx.store.patch(creditNotes, id, { status: 'void', voided_at: seconds(ctx) });
  emit(ctx, 'credit_note.voided', view);
  creditInvoice(ctx, invoice.id, -view.pre_payment_amount, 0);
  return view;
}

function findCreditNote(ctx: Context, id: string) {
  const found = ctx.store.get(creditNotes, id);
  if (!found) throw noSuch('credit note', id, 'id', 404);
  return found;
}

function creditNotesOf(ctx: Context, invoice: string): CreditNoteView[] {
  return ctx.store.lookUp(creditNotes, 'invoice', invoice).map(({ view }) => view);
}

export const creditNoteExpandable: Expandable = {
  customer: expandCustomer,
  customer_balance_transaction: (ctx, view) =>
    ctx.store.get(customerBalanceTransactions, String(view.customer_balance_transaction))?.view,
  invoice: (ctx, view) => ctx.store.get(invoices, String(view.invoice))?.view,
};

export const creditNoteRoutes: Route[] = [
  route('POST', '/v1/credit_notes', creditNoteParams, createCreditNote),
  route('GET', '/v1/credit_notes', creditNoteListParams, (ctx, filter) =>
    listRows(
      ctx,
      creditNotes,
      '/v1/credit_notes',
      filter,
      ({ view }) =>
        matchesFilter(filter.customer, view.customer) &&
        matchesFilter(filter.invoice, view.invoice) &&
        inRange(view.created, filter.created),
    ),
  ),
  // The refund a preview would make does not exist: it is left out of `refunds`.
  route('GET', '/v1/credit_notes/preview', creditNoteParams, (ctx, given) => {
    const { invoice, lines, shares, number } = plan(ctx, given);
    return draft(ctx, given, invoice, lines, number, shares);
  }),
  route('GET', '/v1/credit_notes/preview/lines', previewLinesParams, (ctx, given) =>
    listItems(plan(ctx, given).lines, '/v1/credit_notes/preview/lines', given),
  ),
  route(
    'GET',
    '/v1/credit_notes/:id',
    { expand },
    (ctx, _params, ids) => findCreditNote(ctx, idOf(ids)).view,
  ),
  route('GET', '/v1/credit_notes/:id/lines', paging, (ctx, page, ids) => {
    const { id, hidden } = findCreditNote(ctx, idOf(ids));
    return listItems(hidden.lines, `/v1/credit_notes/${id}/lines`, page);
  }),
  route('POST', '/v1/credit_notes/:id', creditNoteUpdateParams, (ctx, given, ids) => {
    const before = findCreditNote(ctx, idOf(ids)).view;
    const { view } = ctx.store.patch(creditNotes, before.id, {
      ...(given.memo === undefined ? {} : { memo: given.memo }),
      metadata: applyMetadata(before.metadata, given.metadata),
    });
    const previous = changedAttributes(before, view);
    if (previous) emit(ctx, 'credit_note.updated', view, previous);
    return view;
  }),
  route('POST', '/v1/credit_notes/:id/void', { expand }, (ctx, _params, ids) =>
    voidCreditNote(ctx, idOf(ids)),
  ),
];
