import type { Context } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { multiply, wholeAmount } from '../money.ts';
import type { Parsed } from '../params.ts';
import type { creditNoteParams } from './creditNoteParams.ts';
import type { CreditNoteLineView } from './creditNoteView.ts';
import { applyMetadata } from './fields.ts';
import type { InvoiceLineView, InvoiceView } from './invoiceView.ts';

type Given = Omit<Parsed<typeof creditNoteParams>, 'expand'>;
type GivenLine = NonNullable<Given['lines']>[number];

/** @throws ApiError unless exactly one of `amount` and `lines` says what is credited. */
export function creditNoteLines(
  ctx: Context,
  invoice: InvoiceView,
  invoiceLines: readonly InvoiceLineView[],
  given: Given,
): CreditNoteLineView[] {
  if ((given.amount === undefined) === (given.lines === undefined)) {
    throw badRequest('You must provide one of `amount` or `lines`.', { param: 'amount' });
  }
  if (given.amount !== undefined) {
    return [
      lineView(ctx, {
        amount: given.amount,
        description: `Credit for invoice ${invoice.number ?? invoice.id}`,
        quantity: 1,
        unit_amount: given.amount,
        unit_amount_decimal: String(given.amount),
        type: 'custom_line_item',
      }),
    ];
  }
  return (given.lines ?? []).map((line, at) =>
    line.type === 'custom_line_item'
      ? customLine(ctx, line, `lines[${at}]`)
      : invoiceLine(ctx, line, invoiceLines, `lines[${at}]`),
  );
}

function customLine(ctx: Context, line: GivenLine, path: string): CreditNoteLineView {
  const unit = line.unit_amount_decimal ?? line.unit_amount?.toString();
  if (line.description === undefined || unit === undefined) {
    throw badRequest('A custom_line_item needs a description and a unit_amount.', { param: path });
  }
  const quantity = line.quantity ?? 1;
  return lineView(ctx, {
    amount: multiply(unit, quantity),
    description: line.description,
    quantity,
    unit_amount: wholeAmount(unit),
    unit_amount_decimal: unit,
    type: 'custom_line_item',
    metadata: applyMetadata({}, line.metadata),
  });
}

/** By quantity or by amount; the same part of the line's discounts goes with it. */
function invoiceLine(
  ctx: Context,
  line: GivenLine,
  invoiceLines: readonly InvoiceLineView[],
  path: string,
): CreditNoteLineView {
  const param = `${path}[invoice_line_item]`;
  if (line.invoice_line_item === undefined) {
    throw badRequest(`Missing required param: ${param}.`, { param, code: 'parameter_missing' });
  }
  const billed = invoiceLines.find(({ id }) => id === line.invoice_line_item);
  if (!billed) throw noSuch('invoice line item', line.invoice_line_item, param, 400);
  const quantity = line.quantity ?? (line.amount === undefined ? (billed.quantity ?? 1) : null);
  const amount =
    line.amount ??
    Math.floor((billed.amount * (quantity ?? 1)) / Math.max(1, billed.quantity ?? 1));
  if (amount > billed.amount || (quantity ?? 0) > (billed.quantity ?? 1)) {
    throw badRequest(`${path} credits more than line ${billed.id} billed.`, { param: path });
  }
  const discounts = (billed.discount_amounts as { amount: number; discount: string }[]).map(
    (one) => ({
      discount: one.discount,
      amount: billed.amount === 0 ? 0 : Math.floor((one.amount * amount) / billed.amount),
    }),
  );
  const unit = billed.pricing?.unit_amount_decimal ?? null;
  return lineView(ctx, {
    amount,
    description: billed.description,
    discount_amounts: discounts,
    invoice_line_item: billed.id,
    quantity,
    unit_amount: quantity === null || unit === null ? null : wholeAmount(unit),
    unit_amount_decimal: quantity === null ? null : unit,
    type: 'invoice_line_item',
    metadata: applyMetadata({}, line.metadata),
  });
}

function lineView(
  ctx: Context,
  given: Pick<
    CreditNoteLineView,
    'amount' | 'description' | 'quantity' | 'type' | 'unit_amount' | 'unit_amount_decimal'
  > &
    Partial<Pick<CreditNoteLineView, 'discount_amounts' | 'invoice_line_item' | 'metadata'>>,
): CreditNoteLineView {
  const discounts = given.discount_amounts ?? [];
  return {
    id: ctx.newId('cnli_'),
    object: 'credit_note_line_item',
    discount_amount: discounts.reduce((sum, { amount }) => sum + amount, 0),
    livemode: false,
    metadata: {},
    pretax_credit_amounts: [],
    tax_rates: [],
    taxes: [],
    ...given,
    discount_amounts: discounts,
  };
}
