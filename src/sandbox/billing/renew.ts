import { type Context, seconds } from '../context.ts';
import { emit } from '../events.ts';
import { findCustomer } from '../resources/customers.ts';
import { pendingItems } from '../resources/invoiceItems.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import {
  type PauseCollection,
  periodOf,
  type SubscriptionView,
  withPeriod,
} from '../resources/subscriptionView.ts';
import { settingsOf } from '../settings.ts';
import { events, invoices, subscriptions } from '../tables.ts';
import { schedule, type TaskHandlers } from '../tasks.ts';
import { periodAt } from './calendar.ts';
import { cancelNow } from './cancelSubscription.ts';
import { tellCreated } from './draftInvoice.ts';
import { endSubscription, unscheduleSubscription } from './endSubscription.ts';
import { finalizeInvoice, findInvoice } from './finalizeInvoice.ts';
import { itemLine } from './invoiceLines.ts';
import { attemptPayment, collectInvoice, markUncollectible } from './payInvoice.ts';
import { planSubscription } from './planSubscription.ts';
import { draftSubscriptionInvoice } from './subscriptionInvoice.ts';
import { findSubscription, hasEnded, updateSubscription } from './subscriptionState.ts';
import { voidInvoice } from './voidInvoice.ts';

/** Finalisation waits this long for an endpoint that does not take `invoice.created`. */
const WEBHOOK_PATIENCE_SECONDS = 72 * 3_600;
const HOUR_MS = 3_600_000;

/** The end of a period or of a trial: a new period begins with its invoice, or the end has come. */
export function renewSubscription(ctx: Context, id: string): void {
  const before = findSubscription(ctx, id);
  if (hasEnded(before) || before.status === 'incomplete' || before.status === 'paused') return;
  if (before.status === 'trialing' && endsWithoutMethod(ctx, before)) return;
  if (before.cancel_at_period_end) {
    billLeftovers(ctx, before);
    endSubscription(ctx, id, {});
    return;
  }
  const last = periodOf(before);
  const [item] = before.items.data;
  if (!item) throw new Error(`The subscription ${id} has no items.`);
  const next = periodAt(before.billing_cycle_anchor, item.plan, last.end);
  const renewed = { ...before, items: withPeriod(before, next) };
  const invoice = draftSubscriptionInvoice(ctx, renewed, {
    reason: 'subscription_cycle',
    lines: renewed.items.data.map((one) => itemLine(ctx, renewed, one, next)),
    period: last,
    finalizesAt: null,
  });
  // The drafting changed the subscription's latest invoice: it is told with the new period.
  const { latest_invoice, discounts } = findSubscription(ctx, id);
  ctx.store.patch(subscriptions, id, {
    latest_invoice: before.latest_invoice,
    discounts: before.discounts,
  });
  const after = updateSubscription(ctx, id, {
    items: renewed.items,
    latest_invoice,
    discounts,
    ...(before.status === 'trialing' ? { status: 'active' as const } : {}),
  });
  planSubscription(ctx, after);
  advanceDraft(ctx, after, invoice);
}

/** What Stripe does with the draft of a renewal, by the state of its subscription. */
function advanceDraft(ctx: Context, subscription: SubscriptionView, invoice: InvoiceView): void {
  const { pause_collection: paused } = subscription;
  if (paused || subscription.status === 'unpaid') {
    ctx.store.patch(invoices, invoice.id, { auto_advance: false });
    tellCreated(ctx, invoice.id);
    if (paused) setAside(ctx, paused, invoice.id);
    return;
  }
  const at = seconds(ctx) + settingsOf(ctx).draft_seconds;
  ctx.store.patch(invoices, invoice.id, { automatically_finalizes_at: at });
  tellCreated(ctx, invoice.id);
  schedule(ctx, 'finalize_invoice', invoice.id, at * 1_000);
}

function setAside(ctx: Context, paused: PauseCollection, invoice: string): void {
  if (paused.behavior === 'keep_as_draft') return;
  finalizeInvoice(ctx, invoice);
  if (paused.behavior === 'void') voidInvoice(ctx, invoice);
  else markUncollectible(ctx, invoice);
}

/** True when the trial's end is the end, or a pause, because there is nothing to pay with. */
function endsWithoutMethod(ctx: Context, subscription: SubscriptionView): boolean {
  const { missing_payment_method: then } = subscription.trial_settings.end_behavior;
  const customer = findCustomer(ctx, subscription.customer, 'customer', 400);
  const method =
    subscription.default_payment_method ?? customer.invoice_settings.default_payment_method;
  if (method !== null || then === 'create_invoice') return false;
  if (then === 'cancel') {
    endSubscription(ctx, subscription.id, { reason: null });
    return true;
  }
  unscheduleSubscription(ctx, subscription.id);
  updateSubscription(
    ctx,
    subscription.id,
    {
      status: 'paused',
      status_details: {
        paused: {
          subscription: { type: 'trial_end_without_payment_method' },
          transitioned_at: seconds(ctx),
          type: 'subscription',
        },
      },
    },
    ['customer.subscription.updated', 'customer.subscription.paused'],
  );
  return true;
}

/** Prorations that wait for a next cycle which will not come are billed at the end. */
function billLeftovers(ctx: Context, subscription: SubscriptionView): void {
  const pending = pendingItems(
    ctx,
    subscription.customer,
    subscription.currency,
    (owner) => owner === subscription.id,
  );
  if (pending.length === 0) return;
  const invoice = draftSubscriptionInvoice(ctx, subscription, {
    reason: 'subscription_cycle',
    lines: [],
    period: periodOf(subscription),
    finalizesAt: null,
    withCustomerItems: false,
  });
  tellCreated(ctx, invoice.id);
  finalizeInvoice(ctx, invoice.id);
  collectInvoice(ctx, invoice.id);
}

function finalizeWhenTaken(ctx: Context, id: string): void {
  const { view, hidden } = findInvoice(ctx, id);
  if (view.status !== 'draft') return;
  const told = ctx.store.get(events, hidden.created_event ?? '')?.view;
  const waits = settingsOf(ctx).draft_waits_for_webhooks && (told?.pending_webhooks ?? 0) > 0;
  if (waits && seconds(ctx) < view.created + WEBHOOK_PATIENCE_SECONDS) {
    schedule(ctx, 'finalize_invoice', id, ctx.now() + HOUR_MS);
    return;
  }
  finalizeInvoice(ctx, id);
  collectInvoice(ctx, id);
}

function retryInvoice(ctx: Context, id: string): void {
  const { status } = findInvoice(ctx, id).view;
  if (status === 'open') attemptPayment(ctx, id, { automatic: true });
}

function expireIncomplete(ctx: Context, id: string): void {
  const subscription = findSubscription(ctx, id);
  if (subscription.status !== 'incomplete') return;
  unscheduleSubscription(ctx, id);
  const latest = ctx.store.get(invoices, subscription.latest_invoice ?? '')?.view;
  if (latest?.status === 'open') voidInvoice(ctx, latest.id);
  updateSubscription(ctx, id, { status: 'incomplete_expired', ended_at: seconds(ctx) });
}

function warnOfTrialEnd(ctx: Context, id: string): void {
  const subscription = findSubscription(ctx, id);
  if (subscription.status === 'trialing') {
    emit(ctx, 'customer.subscription.trial_will_end', subscription);
  }
}

/** Drafts kept aside stay drafts, as at Stripe: whoever wants their money finalises them. */
function resumeCollection(ctx: Context, id: string): void {
  if (!hasEnded(findSubscription(ctx, id))) updateSubscription(ctx, id, { pause_collection: null });
}

function cancelWhenDue(ctx: Context, id: string): void {
  const row = ctx.store.get(subscriptions, id);
  if (row && !hasEnded(row.view)) cancelNow(ctx, id, { prorate: row.hidden.cancel_prorates });
}

export const billingTasks = {
  cancel_subscription: cancelWhenDue,
  expire_incomplete: expireIncomplete,
  finalize_invoice: finalizeWhenTaken,
  renew_subscription: renewSubscription,
  resume_collection: resumeCollection,
  retry_invoice: retryInvoice,
  trial_will_end: warnOfTrialEnd,
} satisfies Partial<TaskHandlers>;

/** For the control API: the finalisation a draft waits an hour for, now. */
export function finalizeAndCollect(ctx: Context, id: string): InvoiceView {
  finalizeInvoice(ctx, id);
  return collectInvoice(ctx, id);
}
