import { type Context, seconds } from '../context.ts';
import { listItems } from '../listing.ts';
import type { Metadata } from './fields.ts';
import type { InvoiceView } from './invoiceView.ts';

/** Lines shown inside the note; the rest is paged from `/v1/credit_notes/:id/lines`. */
const LINES_SHOWN_MAX = 10;

export type CreditNoteReason =
  | 'duplicate'
  | 'fraudulent'
  | 'order_change'
  | 'product_unsatisfactory';

export type CreditNoteLineView = {
  id: string;
  object: 'credit_note_line_item';
  /** Before discounts. */
  amount: number;
  description: string | null;
  discount_amount: number;
  discount_amounts: { amount: number; discount: string }[];
  invoice_line_item?: string;
  livemode: false;
  metadata: Metadata;
  pretax_credit_amounts: never[];
  quantity: number | null;
  tax_rates: never[];
  taxes: never[];
  type: 'custom_line_item' | 'invoice_line_item';
  unit_amount: number | null;
  unit_amount_decimal: string | null;
};

export type CreditNoteHidden = { lines: CreditNoteLineView[] };

export type LinkedRefund = {
  amount_refunded: number;
  payment_record_refund: null;
  refund: string;
  type: 'refund';
};

export type CreditNoteView = ReturnType<typeof creditNoteView>;

/** Where the credited money goes. Their sum is the note's total. */
export interface Shares {
  /** Lowers what is still to be paid. */
  readonly pre_payment: number;
  readonly refunds: readonly LinkedRefund[];
  /** To the customer's balance. */
  readonly credit: number;
  readonly out_of_band: number;
}

export function creditNoteView(
  ctx: Context,
  invoice: InvoiceView,
  given: {
    lines: readonly CreditNoteLineView[];
    shares: Shares;
    number: string;
    memo: string | null;
    metadata: Metadata;
    reason: CreditNoteReason | null;
    effective_at: number | null;
    customer_balance_transaction: string | null;
  },
) {
  const id = ctx.newId('cn_');
  const { lines, shares } = given;
  const subtotal = lines.reduce((sum, { amount }) => sum + amount, 0);
  const discount = lines.reduce((sum, { discount_amount }) => sum + discount_amount, 0);
  const total = subtotal - discount;
  const post = total - shares.pre_payment;
  return {
    id,
    object: 'credit_note' as const,
    amount: total,
    amount_shipping: 0,
    created: seconds(ctx),
    currency: invoice.currency,
    customer: invoice.customer,
    customer_account: null,
    customer_balance_transaction: given.customer_balance_transaction,
    discount_amount: discount,
    discount_amounts: lines.flatMap(({ discount_amounts }) => discount_amounts),
    effective_at: given.effective_at ?? seconds(ctx),
    invoice: invoice.id,
    lines: listItems(lines, `/v1/credit_notes/${id}/lines`, { limit: LINES_SHOWN_MAX }),
    livemode: false as const,
    memo: given.memo,
    metadata: given.metadata,
    number: given.number,
    out_of_band_amount: shares.out_of_band === 0 ? null : shares.out_of_band,
    pdf: `${ctx.origin()}/credit_notes/${id}`,
    post_payment_amount: post,
    pre_payment_amount: shares.pre_payment,
    pretax_credit_amounts: [] as never[],
    reason: given.reason,
    refunds: [...shares.refunds],
    shipping_cost: null,
    status: 'issued' as 'issued' | 'void',
    subtotal,
    subtotal_excluding_tax: subtotal,
    total,
    total_excluding_tax: total,
    total_taxes: [] as never[],
    type:
      shares.pre_payment === 0
        ? ('post_payment' as const)
        : post === 0
          ? ('pre_payment' as const)
          : ('mixed' as const),
    voided_at: null as number | null,
  };
}
