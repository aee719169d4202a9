import type { Context } from '../context.ts';
import { createInvoiceItem, type InvoiceItemView } from '../resources/invoiceItems.ts';
import type { CreditedItems } from '../resources/invoiceView.ts';
import type { SubscriptionItemView, SubscriptionView } from '../resources/subscriptionView.ts';
import { invoices } from '../tables.ts';
import { dayText } from './calendar.ts';
import { activeDiscounts, afterDiscounts } from './discounts.ts';
import { nameOf, priceOf } from './invoiceLines.ts';
import { share } from './proration.ts';

/** Invoices looked through for the debit that a credit takes back. */
const DEBIT_LOOK_MAX = 50;

interface ProrationSpan {
  /** From when the time is credited or charged, and the end of the period. Seconds. */
  readonly from: number;
  readonly end: number;
  /** Where that period began. */
  readonly start: number;
}

/** Takes back what was billed for the rest of the period. Null when that is nothing. */
export function creditUnused(
  ctx: Context,
  subscription: SubscriptionView,
  item: SubscriptionItemView,
  span: ProrationSpan,
): InvoiceItemView | null {
  const amount = -netShare(ctx, subscription, item, span);
  if (amount === 0) return null;
  return prorate(ctx, subscription, item, span, {
    amount,
    description: `Unused time on ${nameOf(ctx, item)} after ${dayText(span.from)}`,
    credited: debitOf(ctx, subscription.id, item.id),
  });
}

/** Bills the rest of the period at what the item costs now. Null when that is nothing. */
export function chargeRemaining(
  ctx: Context,
  subscription: SubscriptionView,
  item: SubscriptionItemView,
  span: ProrationSpan,
): InvoiceItemView | null {
  const amount = netShare(ctx, subscription, item, span);
  if (amount === 0) return null;
  return prorate(ctx, subscription, item, span, {
    amount,
    description: `Remaining time on ${nameOf(ctx, item)} after ${dayText(span.from)}`,
    credited: null,
  });
}

/** Discounts are included in the amount (`proration_discounts: included`), not itemised. */
function netShare(
  ctx: Context,
  subscription: SubscriptionView,
  item: SubscriptionItemView,
  { from, end, start }: ProrationSpan,
): number {
  const { amount, product } = priceOf(ctx, subscription, item);
  const applied = activeDiscounts(ctx, subscription.discounts, from);
  const net = afterDiscounts({ amount, product, discountable: true }, applied);
  return share(net, end - from, end - start);
}

function prorate(
  ctx: Context,
  subscription: SubscriptionView,
  item: SubscriptionItemView,
  span: ProrationSpan,
  part: { amount: number; description: string; credited: CreditedItems },
): InvoiceItemView {
  return createInvoiceItem(ctx, {
    customer: subscription.customer,
    currency: subscription.currency,
    amount: part.amount,
    description: part.description,
    discountable: false,
    metadata: subscription.metadata,
    period: { start: span.from, end: span.end },
    pricing: {
      price_details: { price: item.price.id, product: item.price.product },
      type: 'price_details',
      unit_amount_decimal: priceOf(ctx, subscription, item).unit,
    },
    quantity: item.quantity,
    subscription: { id: subscription.id, item: item.id },
    proration: { credited: part.credited },
  });
}

/** The newest debit of the item that was billed. */
function debitOf(ctx: Context, subscription: string, item: string): CreditedItems {
  const billed = ctx.store.lookUp(invoices, 'subscription', subscription).slice(-DEBIT_LOOK_MAX);
  for (const { view, hidden } of billed.reverse()) {
    const lines = hidden.lines.filter(
      (line) =>
        line.amount > 0 && line.parent.subscription_item_details?.subscription_item === item,
    );
    if (lines.length === 0) continue;
    return { invoice: view.id, invoice_line_items: lines.map(({ id }) => id) };
  }
  return null;
}
