import type { Context } from '../context.ts';
import { formatAmount, multiply } from '../money.ts';
import type { InvoiceItemView } from '../resources/invoiceItems.ts';
import type { LineParent } from '../resources/invoiceView.ts';
import { unitIn } from '../resources/priceFactory.ts';
import { productName } from '../resources/products.ts';
import type { SubscriptionItemView, SubscriptionView } from '../resources/subscriptionView.ts';
import { invoiceItems } from '../tables.ts';
import type { Period } from './calendar.ts';
import type { LineDraft } from './draftInvoice.ts';

/** What an item costs for one whole period, before discounts. */
export function priceOf(
  ctx: Context,
  subscription: Pick<SubscriptionView, 'currency'>,
  item: Pick<SubscriptionItemView, 'price' | 'quantity'>,
): { unit: string; amount: number; product: string } {
  const unit = unitIn(ctx, item.price, subscription.currency, `The price ${item.price.id}`);
  return { unit, amount: multiply(unit, item.quantity), product: item.price.product };
}

/** `3 × Individual`: how lines name an item. */
export function nameOf(
  ctx: Context,
  item: Pick<SubscriptionItemView, 'price' | 'quantity'>,
): string {
  return `${item.quantity} × ${productName(ctx, item.price.product)}`;
}

/** The line of an item for one period. `amount` differs from its price in a trial or a short period. */
export function itemLine(
  ctx: Context,
  subscription: SubscriptionView,
  item: SubscriptionItemView,
  period: Period,
  amount?: number,
): LineDraft {
  const price = priceOf(ctx, subscription, item);
  const { interval, interval_count } = item.plan;
  const every = interval_count === 1 ? interval : `every ${interval_count} ${interval}s`;
  const trial = amount === 0 && price.amount > 0;
  return {
    amount: amount ?? price.amount,
    description: trial
      ? `Trial period for ${nameOf(ctx, item)}`
      : `${nameOf(ctx, item)} (at ${formatAmount(Number(price.unit), subscription.currency)} / ${every})`,
    discountable: true,
    metadata: subscription.metadata,
    parent: {
      invoice_item_details: null,
      subscription_item_details: {
        invoice_item: null,
        proration: false,
        proration_details: { credited_items: null },
        subscription: subscription.id,
        subscription_item: item.id,
      },
      type: 'subscription_item_details',
    },
    period,
    pricing: {
      price_details: { price: item.price.id, product: item.price.product },
      type: 'price_details',
      unit_amount_decimal: trial ? '0' : price.unit,
    },
    quantity: item.quantity,
  };
}

/** An invoice item as a line. A proration belongs to its subscription item, as since `basil`. */
export function pendingLine(item: InvoiceItemView): LineDraft {
  const details = item.parent?.subscription_details;
  const proration_details = {
    credited_items: item.proration_details?.credited_items?.invoice_line_item_details ?? null,
  };
  const parent: LineParent =
    details?.subscription_item === undefined
      ? {
          invoice_item_details: {
            invoice_item: item.id,
            proration: item.proration,
            proration_details,
            subscription: details?.subscription ?? null,
          },
          subscription_item_details: null,
          type: 'invoice_item_details',
        }
      : {
          invoice_item_details: null,
          subscription_item_details: {
            invoice_item: item.id,
            proration: item.proration,
            proration_details,
            subscription: details.subscription,
            subscription_item: details.subscription_item,
          },
          type: 'subscription_item_details',
        };
  return {
    amount: item.amount,
    description: item.description,
    discountable: item.discountable,
    metadata: item.metadata,
    parent,
    period: item.period,
    pricing: item.pricing,
    quantity: item.quantity,
  };
}

/** The items are on this invoice now and wait no longer. */
export function attachItems(
  ctx: Context,
  items: readonly InvoiceItemView[],
  invoice: string,
): void {
  for (const { id } of items) ctx.store.patch(invoiceItems, id, { invoice });
}
