import { type Context, seconds } from '../context.ts';
import type { Line } from '../resources/checkoutLines.ts';
import type { SessionView } from '../resources/checkoutView.ts';
import { findCoupon } from '../resources/coupons.ts';
import { findCustomer } from '../resources/customers.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import { createDiscount } from './discounts.ts';
import { createDraft, tellCreated } from './draftInvoice.ts';
import { finalizeInvoice } from './finalizeInvoice.ts';
import { settleInvoice } from './payInvoice.ts';

/** The invoice of a paid session (`invoice_creation`), still a draft and not told to anybody. */
export function draftSessionInvoice(
  ctx: Context,
  session: SessionView,
  lines: readonly Line[],
  discounts: readonly { coupon: string; promotionCode: string | null }[],
  customerId: string,
): InvoiceView {
  const now = seconds(ctx);
  const data = session.invoice_creation?.invoice_data;
  const currency = session.currency ?? 'usd';
  const applied = discounts.map(({ coupon, promotionCode }) =>
    createDiscount(ctx, {
      coupon: findCoupon(ctx, coupon, 'discounts', 400),
      promotionCode,
      customer: customerId,
      checkoutSession: session.id,
      currency,
    }),
  );
  return createDraft(ctx, {
    customer: findCustomer(ctx, customerId, 'customer', 400),
    currency,
    discounts: applied.map(({ id }) => id),
    reason: 'manual',
    period: { start: now, end: now },
    automaticTax: session.automatic_tax.enabled,
    description: data?.description ?? null,
    footer: data?.footer ?? null,
    metadata: data?.metadata ?? {},
    lines: lines.map(({ item, unit }) => ({
      amount: item.amount_subtotal,
      description: item.description,
      discountable: true,
      metadata: {},
      parent: {
        invoice_item_details: {
          invoice_item: ctx.newId('ii_'),
          proration: false,
          proration_details: { credited_items: null },
          subscription: null,
        },
        subscription_item_details: null,
        type: 'invoice_item_details',
      },
      period: { start: now, end: now },
      pricing: {
        price_details: { price: item.price.id, product: item.price.product },
        type: 'price_details',
        unit_amount_decimal: unit,
      },
      quantity: item.quantity,
    })),
  });
}

/** Finalises and pays it with money that has already come, in Stripe's order of events. */
export function paySessionInvoice(ctx: Context, id: string, intent: string | null): InvoiceView {
  tellCreated(ctx, id);
  finalizeInvoice(ctx, id, { intent });
  return settleInvoice(ctx, id, { intent });
}
