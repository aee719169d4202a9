import { type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import { emit } from '../events.ts';
import { cancelInvoicePayments } from '../resources/invoicePayments.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import { invoices } from '../tables.ts';
import { unschedule } from '../tasks.ts';
import { changeBalance } from './customerBalance.ts';
import { findInvoice } from './finalizeInvoice.ts';

/** Open or uncollectible to void: nothing is owed any more, and used credit comes back. */
export function voidInvoice(ctx: Context, id: string): InvoiceView {
  const { view: before } = findInvoice(ctx, id);
  if (before.status !== 'open' && before.status !== 'uncollectible') {
    throw badRequest(
      before.status === 'draft'
        ? 'You can only pass in open invoices. This invoice is a draft: delete it instead.'
        : `You can only void open or uncollectible invoices, and ${id} is ${before.status}.`,
      { param: 'invoice' },
    );
  }
  unschedule(ctx, 'retry_invoice', id);
  cancelInvoicePayments(ctx, id);
  const used = (before.ending_balance ?? 0) - before.starting_balance;
  if (used !== 0) {
    changeBalance(ctx, {
      customer: before.customer,
      currency: before.currency,
      amount: -used,
      type: 'unapplied_from_invoice',
      invoice: id,
    });
  }
  const { view } = ctx.store.patch(invoices, id, {
    auto_advance: false,
    next_payment_attempt: null,
    status: 'void',
    status_transitions: { ...before.status_transitions, voided_at: seconds(ctx) },
  });
  emit(ctx, 'invoice.voided', view);
  return view;
}
