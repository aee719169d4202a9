import { type Context, seconds } from '../context.ts';
import { pendingItems, removeInvoiceItem } from '../resources/invoiceItems.ts';
import {
  type CancellationDetails,
  periodOf,
  type SubscriptionView,
} from '../resources/subscriptionView.ts';
import { tellCreated } from './draftInvoice.ts';
import { endSubscription } from './endSubscription.ts';
import { finalizeInvoice } from './finalizeInvoice.ts';
import { collectInvoice } from './payInvoice.ts';
import { creditUnused } from './prorations.ts';
import { draftSubscriptionInvoice } from './subscriptionInvoice.ts';
import { findLiveSubscription } from './subscriptionState.ts';

interface CancelOptions {
  /** Credits the rest of the period, as a pending invoice item. */
  readonly prorate?: boolean;
  /** Bills what is pending for it now. */
  readonly invoiceNow?: boolean;
  readonly details?: Partial<CancellationDetails>;
}

/** Ends a subscription at once. @throws ApiError 400 when it has ended before. */
export function cancelNow(ctx: Context, id: string, options: CancelOptions = {}): SubscriptionView {
  const before = findLiveSubscription(ctx, id);
  const now = seconds(ctx);
  const { start, end } = periodOf(before);
  const billed = before.status === 'active' || before.status === 'past_due';
  if (options.prorate && billed) {
    for (const item of before.items.data) {
      creditUnused(ctx, before, item, { start, end, from: Math.min(now, end) });
    }
  }
  const pending = pendingItems(
    ctx,
    before.customer,
    before.currency,
    (owner) => owner === before.id,
  );
  if (options.invoiceNow && pending.length > 0) billNow(ctx, before, now);
  else if (!options.prorate) for (const item of pending) removeInvoiceItem(ctx, item);
  return endSubscription(ctx, id, { reason: 'cancellation_requested', ...options.details });
}

function billNow(ctx: Context, subscription: SubscriptionView, now: number): void {
  const invoice = draftSubscriptionInvoice(ctx, subscription, {
    reason: 'manual',
    lines: [],
    period: { start: now, end: now },
    finalizesAt: null,
    withCustomerItems: false,
  });
  tellCreated(ctx, invoice.id);
  finalizeInvoice(ctx, invoice.id);
  collectInvoice(ctx, invoice.id);
}
