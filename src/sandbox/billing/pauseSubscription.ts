import { type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import {
  type ProrationBehavior,
  periodOf,
  type SubscriptionView,
  withPeriod,
} from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';
import { periodAt } from './calendar.ts';
import { tellCreated } from './draftInvoice.ts';
import { unscheduleSubscription } from './endSubscription.ts';
import { finalizeInvoice } from './finalizeInvoice.ts';
import { itemLine } from './invoiceLines.ts';
import { attemptPayment, collectInvoice } from './payInvoice.ts';
import { chargeRemaining, creditUnused } from './prorations.ts';
import { draftSubscriptionInvoice } from './subscriptionInvoice.ts';
import { activate } from './subscriptionPayments.ts';
import { findLiveSubscription, findSubscription, updateSubscription } from './subscriptionState.ts';

export interface PauseOptions {
  /** From when the paid time is given back as credit; `none`: it is not. */
  readonly unusedTimeFrom: 'now' | 'item_current_period_start' | 'none';
  readonly invoicing: 'invoice' | 'pending_invoice_item';
}

/** `POST /v1/subscriptions/:id/pause`: no service and no bills until it is resumed. */
export function pauseSubscription(
  ctx: Context,
  id: string,
  options: PauseOptions,
): SubscriptionView {
  const before = findLiveSubscription(ctx, id);
  if (before.status !== 'active' && before.status !== 'past_due') {
    throw badRequest(`A ${before.status} subscription cannot be paused: only an active one can.`, {
      param: 'id',
    });
  }
  const { start, end } = periodOf(before);
  const now = Math.min(seconds(ctx), end);
  if (options.unusedTimeFrom !== 'none') {
    const from = options.unusedTimeFrom === 'now' ? now : start;
    for (const item of before.items.data) creditUnused(ctx, before, item, { from, start, end });
  }
  unscheduleSubscription(ctx, id);
  const paused = updateSubscription(
    ctx,
    id,
    {
      status: 'paused',
      status_details: {
        paused: {
          subscription: { type: 'pause_requested' },
          transitioned_at: seconds(ctx),
          type: 'subscription',
        },
      },
    },
    ['customer.subscription.updated', 'customer.subscription.paused'],
  );
  if (options.invoicing === 'invoice') billCredit(ctx, paused);
  return findSubscription(ctx, id);
}

function billCredit(ctx: Context, subscription: SubscriptionView): void {
  const now = seconds(ctx);
  const invoice = draftSubscriptionInvoice(ctx, subscription, {
    reason: 'subscription_update',
    lines: [],
    period: { start: now, end: now },
    finalizesAt: null,
    withCustomerItems: false,
  });
  tellCreated(ctx, invoice.id);
  finalizeInvoice(ctx, invoice.id);
  collectInvoice(ctx, invoice.id);
}

export interface ResumeOptions {
  /** `now`: a whole new period is billed. `unchanged`: the rest of the period that would run. */
  readonly anchor: 'now' | 'unchanged';
  readonly prorationBehavior: ProrationBehavior;
  /** On success: it stays paused until the bill of the new period is paid. */
  readonly payment: 'resume_on_payment_attempt' | 'resume_on_payment_success';
}

/** @throws ApiError 400 unless it is paused. */
export function resumeSubscription(
  ctx: Context,
  id: string,
  options: ResumeOptions,
): SubscriptionView {
  const before = findLiveSubscription(ctx, id);
  if (before.status !== 'paused') {
    throw badRequest(`Only a paused subscription can be resumed; ${id} is ${before.status}.`, {
      param: 'id',
    });
  }
  const now = seconds(ctx);
  const [item] = before.items.data;
  if (!item) throw new Error(`The subscription ${id} has no items.`);
  const anchor = options.anchor === 'now' ? now : before.billing_cycle_anchor;
  const period = periodAt(anchor, item.plan, now);
  const resumed: SubscriptionView = {
    ...before,
    billing_cycle_anchor: anchor,
    items: withPeriod(before, period),
  };
  const invoice = draftResumed(ctx, resumed, period, options);
  const waits = invoice !== null && options.payment === 'resume_on_payment_success';
  ctx.store.patch(
    subscriptions,
    id,
    { billing_cycle_anchor: anchor, items: resumed.items },
    { resuming_invoice: waits ? invoice.id : null },
  );
  if (!waits || invoice.total <= 0) activate(ctx, id);
  if (invoice) {
    tellCreated(ctx, invoice.id);
    const { amount_due } = finalizeInvoice(ctx, invoice.id);
    if (amount_due === 0) collectInvoice(ctx, invoice.id);
    else attemptPayment(ctx, invoice.id, { automatic: true });
  }
  return findSubscription(ctx, id);
}

function draftResumed(
  ctx: Context,
  subscription: SubscriptionView,
  period: { start: number; end: number },
  options: ResumeOptions,
): InvoiceView | null {
  const now = seconds(ctx);
  const whole = options.anchor === 'now';
  if (!whole && options.prorationBehavior !== 'none') {
    for (const item of subscription.items.data) {
      chargeRemaining(ctx, subscription, item, { from: now, ...period });
    }
  }
  if (!whole && options.prorationBehavior !== 'always_invoice') return null;
  return draftSubscriptionInvoice(ctx, subscription, {
    reason: 'subscription_update',
    lines: whole
      ? subscription.items.data.map((item) => itemLine(ctx, subscription, item, period))
      : [],
    period: { start: now, end: now },
    finalizesAt: null,
    withCustomerItems: false,
  });
}
