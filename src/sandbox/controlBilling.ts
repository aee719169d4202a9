import { z } from 'zod';
import { cancelNow } from './billing/cancelSubscription.ts';
import { changeCard, planEnd } from './billing/customerActions.ts';
import { findInvoice } from './billing/finalizeInvoice.ts';
import { setFailures } from './billing/nextFailures.ts';
import { pauseSubscription, resumeSubscription } from './billing/pauseSubscription.ts';
import { attemptPayment, payPart, settleInvoice } from './billing/payInvoice.ts';
import { finalizeAndCollect, renewSubscription } from './billing/renew.ts';
import { findLiveSubscription } from './billing/subscriptionState.ts';
import { type Context, seconds } from './context.ts';
import { parseControl } from './controlBody.ts';
import type { ControlRoute } from './controlRoute.ts';
import { badRequest } from './errors.ts';
import { AMOUNT_MAX } from './money.ts';
import { findCustomer } from './resources/customers.ts';
import { present } from './resources/fields.ts';
import { periodOf, type SubscriptionView, withPeriod } from './resources/subscriptionView.ts';
import { changeSettings, RETRIES_MAX, settingsOf } from './settings.ts';
import { invoices, subscriptions } from './tables.ts';
import { EVENT_VERSIONS } from './versions.ts';

const FAILURES_MAX = 1_000;

const cardNumber = z.string().regex(/^\d{12,19}$/, 'the digits of a test card');
const cardSchema = z.strictObject({ card_number: cardNumber });
const failSchema = z.strictObject({
  times: z.int().min(0).max(FAILURES_MAX).default(1),
  decline_code: z.string().min(1).max(100).default('generic_decline'),
});
const cancelSchema = z.strictObject({
  at_period_end: z.boolean().default(false),
  prorate: z.boolean().default(false),
});
const payInvoiceSchema = z.strictObject({
  amount: z.int().min(1).max(AMOUNT_MAX).optional(),
  out_of_band: z.boolean().default(false),
});
const settingsSchema = z.strictObject({
  deliveries: z.enum(['on', 'off']).optional(),
  retry_days: z.array(z.int().min(1).max(60)).max(RETRIES_MAX).optional(),
  after_last_retry: z.enum(['cancel', 'mark_unpaid', 'leave_past_due']).optional(),
  invoice_after_last_retry: z.enum(['leave_open', 'mark_uncollectible']).optional(),
  draft_seconds: z
    .int()
    .min(0)
    .max(30 * 86_400)
    .optional(),
  api_version: z.enum(EVENT_VERSIONS).optional(),
  draft_waits_for_webhooks: z.boolean().optional(),
  portal_saved: z.boolean().optional(),
});
const emptySchema = z.strictObject({});

/** What a customer, his bank or the merchant does, without a browser. */
export const billingControl: readonly ControlRoute[] = [
  {
    method: 'GET',
    pattern: /^\/_sandbox\/settings$/,
    run: (ctx) => settingsOf(ctx),
  },
  {
    method: 'PUT',
    pattern: /^\/_sandbox\/settings$/,
    run: (ctx, { body }) => changeSettings(ctx, present(parseControl(settingsSchema, body))),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/customers\/([^/]+)\/card$/,
    run: (ctx, { id, body }) => changeCard(ctx, id, parseControl(cardSchema, body).card_number),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/customers\/([^/]+)\/fail_payments$/,
    run: (ctx, { id, body }) => {
      const { times, decline_code } = parseControl(failSchema, body);
      setFailures(ctx, findCustomer(ctx, id, 'customer', 404).id, times, {
        code: 'card_declined',
        decline_code,
        message: 'Your card was declined.',
      });
      return { customer: id, times };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/subscriptions\/([^/]+)\/renew$/,
    run: (ctx, { id, body }) => {
      parseControl(emptySchema, body);
      return renewNow(ctx, id);
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/subscriptions\/([^/]+)\/cancel$/,
    run: (ctx, { id, body }) => cancel(ctx, id, parseControl(cancelSchema, body)),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/subscriptions\/([^/]+)\/pause$/,
    run: (ctx, { id, body }) => {
      parseControl(emptySchema, body);
      const how = { unusedTimeFrom: 'now', invoicing: 'pending_invoice_item' } as const;
      return { subscription: pauseSubscription(ctx, id, how) };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/subscriptions\/([^/]+)\/resume$/,
    run: (ctx, { id, body }) => {
      parseControl(emptySchema, body);
      const subscription = resumeSubscription(ctx, id, {
        anchor: 'now',
        prorationBehavior: 'create_prorations',
        payment: 'resume_on_payment_success',
      });
      return { subscription };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/invoices\/([^/]+)\/pay$/,
    run: (ctx, { id, body }) => payInvoice(ctx, id, parseControl(payInvoiceSchema, body)),
  },
];

/** The period ends now instead of later; its dates count from now on. */
function renewNow(ctx: Context, id: string) {
  const before = findLiveSubscription(ctx, id);
  if (before.status === 'paused' || before.status === 'incomplete') {
    throw badRequest(`A subscription that is ${before.status} is not renewed.`);
  }
  const now = seconds(ctx);
  const { start } = periodOf(before);
  ctx.store.patch(subscriptions, id, {
    billing_cycle_anchor: now,
    items: withPeriod(before, { start, end: now }),
  });
  renewSubscription(ctx, id);
  const after = ctx.store.get(subscriptions, id)?.view as SubscriptionView;
  const latest = ctx.store.get(invoices, after.latest_invoice ?? '')?.view;
  const automatic = latest?.status === 'draft' && latest.auto_advance;
  const invoice = automatic ? finalizeAndCollect(ctx, latest.id) : (latest ?? null);
  return { subscription: ctx.store.get(subscriptions, id)?.view, invoice };
}

function cancel(ctx: Context, id: string, given: z.output<typeof cancelSchema>) {
  if (!given.at_period_end) {
    return { subscription: cancelNow(ctx, id, { prorate: given.prorate }) };
  }
  return { subscription: planEnd(ctx, id, true) };
}

function payInvoice(ctx: Context, id: string, given: z.output<typeof payInvoiceSchema>) {
  const { view } = findInvoice(ctx, id);
  if (view.status === 'draft') return { invoice: finalizeAndCollect(ctx, id) };
  if (given.out_of_band) return { invoice: settleInvoice(ctx, id, { outOfBand: true }) };
  if (given.amount !== undefined) return { invoice: payPart(ctx, id, given.amount) };
  return { invoice: attemptPayment(ctx, id, { onSession: true }).invoice };
}
