import { type Context, seconds } from '../context.ts';
import { findCustomer } from '../resources/customers.ts';
import { pendingItems } from '../resources/invoiceItems.ts';
import type { BillingReason, InvoiceView } from '../resources/invoiceView.ts';
import type { SubscriptionView } from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';
import type { Period } from './calendar.ts';
import { activeDiscounts, endDiscount } from './discounts.ts';
import { createDraft, INVOICE_LINES_MAX, type LineDraft } from './draftInvoice.ts';
import { attachItems, pendingLine } from './invoiceLines.ts';

const DAY_SECONDS = 86_400;

interface SubscriptionInvoice {
  readonly reason: BillingReason;
  readonly lines: readonly LineDraft[];
  readonly period: Period;
  readonly finalizesAt: number | null;
  readonly prorationDate?: number | undefined;
  /** Also what waits for the customer and belongs to no subscription, as with a cycle's invoice. */
  readonly withCustomerItems?: boolean;
}

/**
 * The draft of an invoice of a subscription: what was pending for it first, then its lines. It is
 * the subscription's latest invoice from now on; neither is told yet.
 */
export function draftSubscriptionInvoice(
  ctx: Context,
  subscription: SubscriptionView,
  given: SubscriptionInvoice,
): InvoiceView {
  const { currency, customer } = subscription;
  const pending = pendingItems(
    ctx,
    customer,
    currency,
    (owner) => owner === subscription.id || (owner === null && (given.withCustomerItems ?? true)),
  ).slice(0, INVOICE_LINES_MAX - given.lines.length);
  const lines = [...pending.map(pendingLine), ...given.lines];
  const applied = activeDiscounts(ctx, subscription.discounts, seconds(ctx));
  const invoice = createDraft(ctx, {
    customer: findCustomer(ctx, customer, 'customer', 400),
    currency,
    reason: given.reason,
    lines,
    period: given.period,
    subscription,
    prorationDate: given.prorationDate,
    discounts: applied.map(({ discount }) => discount.id),
    autoAdvance: true,
    finalizesAt: given.finalizesAt,
    collectionMethod: subscription.collection_method,
    dueDate:
      subscription.days_until_due === null
        ? null
        : seconds(ctx) + subscription.days_until_due * DAY_SECONDS,
    automaticTax: subscription.automatic_tax.enabled,
    description: subscription.description,
  });
  attachItems(ctx, pending, invoice.id);
  // `once` is for one invoice on which it took something off; a trial's is not that one.
  const left = applied.filter(({ coupon }) => coupon.duration !== 'once' || invoice.subtotal <= 0);
  for (const { discount, coupon } of applied) {
    if (coupon.duration === 'once' && invoice.subtotal > 0) endDiscount(ctx, discount.id);
  }
  ctx.store.patch(subscriptions, subscription.id, {
    latest_invoice: invoice.id,
    discounts: left.map(({ discount }) => discount.id),
  });
  return invoice;
}
