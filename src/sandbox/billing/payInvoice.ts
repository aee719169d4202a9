import { type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import { emit } from '../events.ts';
import { chargeIntent } from '../payments.ts';
import type { Refusal } from '../resources/charges.ts';
import { findCustomer, updateCustomer } from '../resources/customers.ts';
import {
  cancelInvoicePayments,
  openInvoicePayment,
  payInvoicePayment,
} from '../resources/invoicePayments.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import {
  createPaymentIntent,
  findPaymentIntent,
  moveIntent,
  type PaymentIntentView,
} from '../resources/paymentIntents.ts';
import { findPaymentMethod } from '../resources/paymentMethods.ts';
import { settingsOf } from '../settings.ts';
import { invoices, paymentMethods, subscriptions } from '../tables.ts';
import { schedule, unschedule } from '../tasks.ts';
import { endSubscription } from './endSubscription.ts';
import { findInvoice, updateInvoice } from './finalizeInvoice.ts';
import { takeFailure } from './nextFailures.ts';
import { keepMethod, settleSubscription, tellOverdue } from './subscriptionPayments.ts';

const DAY_SECONDS = 86_400;

type Attempt =
  | { readonly outcome: 'paid'; readonly invoice: InvoiceView }
  | { readonly outcome: 'failed'; readonly invoice: InvoiceView; readonly refusal: Refusal }
  | { readonly outcome: 'requires_action'; readonly invoice: InvoiceView };

interface AttemptOptions {
  /** Pays with this one instead of the default. */
  readonly method?: string | undefined;
  /** The buyer is there and can authenticate. */
  readonly onSession?: boolean;
  /** Stripe's own attempt: it is repeated on the retry schedule, and marks the customer. */
  readonly automatic?: boolean;
}

const NO_METHOD: Refusal = {
  code: 'payment_method_missing',
  decline_code: null,
  message:
    'This customer has no attached payment source or default payment method. Attach one and make it the default, or pass payment_method.',
};

/** Tries to take what is left of an open invoice, and does what follows. @throws ApiError 400 */
export function attemptPayment(ctx: Context, id: string, options: AttemptOptions = {}): Attempt {
  const invoice = payable(ctx, id);
  const methodId = options.method ?? defaultMethodOf(ctx, invoice);
  const method = methodId === null ? null : findPaymentMethod(ctx, methodId, 'payment_method', 400);
  const intent = { ...intentOf(ctx, invoice), amount: invoice.amount_remaining };
  if (!method) return failed(ctx, invoice, NO_METHOD, options);
  const behaviour = ctx.store.get(paymentMethods, method.id)?.hidden;
  const refusal = takeFailure(ctx, invoice.customer) ?? behaviour?.refusal ?? null;
  if (refusal === null && behaviour?.authenticates && !options.onSession) {
    return actionNeeded(ctx, invoice, intent, method.id, options);
  }
  chargeIntent(ctx, intent, method, refusal);
  if (refusal) return failed(ctx, invoice, refusal, options);
  keepMethod(ctx, invoice, method);
  return { outcome: 'paid', invoice: settleInvoice(ctx, id) };
}

/** A part of an open invoice, paid with a payment of its own. At most what remains of it. */
export function payPart(ctx: Context, id: string, amount: number): InvoiceView {
  const invoice = payable(ctx, id);
  if (amount >= invoice.amount_remaining)
    return attemptPayment(ctx, id, { onSession: true }).invoice;
  const methodId = defaultMethodOf(ctx, invoice);
  if (methodId === null) throw badRequest(NO_METHOD.message, { code: NO_METHOD.code });
  const method = findPaymentMethod(ctx, methodId, 'payment_method', 400);
  const intent = newIntent(ctx, invoice, amount);
  const payment = openInvoicePayment(ctx, invoice, intent.id, { amount, isDefault: false });
  chargeIntent(ctx, intent, method, null);
  payInvoicePayment(ctx, payment.id);
  return updateInvoice(ctx, id, {
    amount_paid: invoice.amount_paid + amount,
    amount_remaining: invoice.amount_remaining - amount,
  });
}

/**
 * Open (or uncollectible) to paid. The money has come by the invoice's intent, out of the account
 * (`outOfBand`), or there was nothing to pay. @throws ApiError 400 for any other status
 */
export function settleInvoice(
  ctx: Context,
  id: string,
  options: { outOfBand?: boolean; intent?: string | null } = {},
): InvoiceView {
  const before = payable(ctx, id);
  const { hidden } = findInvoice(ctx, id);
  const outOfBand = options.outOfBand ?? false;
  const intent = options.intent ?? hidden.payment_intent;
  unschedule(ctx, 'retry_invoice', id);
  const charged = !outOfBand && before.amount_remaining > 0;
  const payment =
    charged && intent !== null
      ? payInvoicePayment(ctx, openInvoicePayment(ctx, before, intent).id)
      : null;
  // Nobody may pay what was asked for and is settled now in another way.
  cancelInvoicePayments(ctx, id);
  const paid = updateInvoice(ctx, id, {
    amount_paid: before.amount_due,
    amount_paid_off_stripe: outOfBand ? before.amount_remaining : before.amount_paid_off_stripe,
    amount_remaining: 0,
    attempt_count: charged ? before.attempt_count + 1 : before.attempt_count,
    attempted: true,
    auto_advance: false,
    next_payment_attempt: null,
    status: 'paid',
    status_transitions: { ...before.status_transitions, paid_at: seconds(ctx) },
  });
  settleSubscription(ctx, paid);
  emit(ctx, 'invoice.paid', paid);
  if (!outOfBand) emit(ctx, 'invoice.payment_succeeded', paid);
  if (payment) emit(ctx, 'invoice_payment.paid', payment);
  markDelinquent(ctx, paid.customer, false);
  return paid;
}

/** What Stripe does by itself with an invoice that was just finalised. */
export function collectInvoice(ctx: Context, id: string): InvoiceView {
  const { view } = findInvoice(ctx, id);
  if (view.amount_due === 0) return settleInvoice(ctx, id);
  if (view.collection_method === 'send_invoice') return view;
  return attemptPayment(ctx, id, { automatic: true }).invoice;
}

/** @throws ApiError 400 unless there is something to pay of it. */
function payable(ctx: Context, id: string): InvoiceView {
  const { view } = findInvoice(ctx, id);
  if (view.status === 'open' || view.status === 'uncollectible') return view;
  throw badRequest(
    view.status === 'paid'
      ? 'Invoice is already paid'
      : `Invoice ${id} is ${view.status}: it cannot be paid.`,
    { param: 'invoice' },
  );
}

export function defaultMethodOf(ctx: Context, invoice: InvoiceView): string | null {
  const subscription = ctx.store.get(
    subscriptions,
    invoice.parent?.subscription_details.subscription ?? '',
  )?.view;
  return (
    invoice.default_payment_method ??
    subscription?.default_payment_method ??
    findCustomer(ctx, invoice.customer, 'customer', 400).invoice_settings.default_payment_method
  );
}

function intentOf(ctx: Context, invoice: InvoiceView): PaymentIntentView {
  const { payment_intent } = findInvoice(ctx, invoice.id).hidden;
  if (payment_intent !== null) {
    const present = findPaymentIntent(ctx, payment_intent);
    if (present.status !== 'canceled') return present;
  }
  const intent = newIntent(ctx, invoice, invoice.amount_remaining);
  ctx.store.patch(invoices, invoice.id, {}, { payment_intent: intent.id });
  openInvoicePayment(ctx, invoice, intent.id);
  return intent;
}

function newIntent(ctx: Context, invoice: InvoiceView, amount: number): PaymentIntentView {
  return createPaymentIntent(ctx, {
    amount,
    currency: invoice.currency,
    customer: invoice.customer,
    methods: ['card'],
    data: {
      description: `Payment for Invoice ${invoice.number ?? invoice.id}`,
      metadata: {},
      receipt_email: null,
      setup_future_usage: null,
      statement_descriptor: invoice.statement_descriptor,
      statement_descriptor_suffix: null,
      transfer_group: null,
    },
  });
}

function failed(
  ctx: Context,
  before: InvoiceView,
  refusal: Refusal,
  options: AttemptOptions,
): Attempt {
  const invoice = recordFailure(ctx, before, options);
  emit(ctx, 'invoice.payment_failed', invoice);
  afterFailure(ctx, invoice, options);
  return { outcome: 'failed', invoice: findInvoice(ctx, invoice.id).view, refusal };
}

function actionNeeded(
  ctx: Context,
  before: InvoiceView,
  intent: PaymentIntentView,
  method: string,
  options: AttemptOptions,
): Attempt {
  moveIntent(
    ctx,
    intent.id,
    {
      status: 'requires_action',
      payment_method: method,
      next_action: { type: 'use_stripe_sdk', use_stripe_sdk: {} },
    },
    'payment_intent.requires_action',
  );
  const invoice = recordFailure(ctx, before, options);
  emit(ctx, 'invoice.payment_action_required', invoice);
  emit(ctx, 'invoice.payment_failed', invoice);
  afterFailure(ctx, invoice, options);
  return { outcome: 'requires_action', invoice: findInvoice(ctx, invoice.id).view };
}

/** Counts the attempt and plans the next, when it was Stripe's own and there is one left. */
function recordFailure(ctx: Context, before: InvoiceView, options: AttemptOptions): InvoiceView {
  const { hidden } = findInvoice(ctx, before.id);
  const days = settingsOf(ctx).retry_days[hidden.retries];
  const again = options.automatic && retries(before) && days !== undefined;
  const next = again ? seconds(ctx) + days * DAY_SECONDS : null;
  if (next !== null) schedule(ctx, 'retry_invoice', before.id, next * 1_000);
  return updateInvoice(
    ctx,
    before.id,
    {
      attempt_count: before.attempt_count + 1,
      attempted: true,
      next_payment_attempt: options.automatic ? next : before.next_payment_attempt,
    },
    again ? { retries: hidden.retries + 1 } : {},
  );
}

/** The first invoice of a subscription is not tried again: it is paid within 23 hours, or it ends. */
function retries(invoice: InvoiceView): boolean {
  return invoice.auto_advance && invoice.billing_reason !== 'subscription_create';
}

function afterFailure(ctx: Context, invoice: InvoiceView, options: AttemptOptions): void {
  if (!options.automatic) return;
  markDelinquent(ctx, invoice.customer, true);
  const id = invoice.parent?.subscription_details.subscription;
  tellOverdue(ctx, invoice);
  if (invoice.next_payment_attempt !== null || !retries(invoice)) return;
  const { after_last_retry, invoice_after_last_retry } = settingsOf(ctx);
  if (invoice_after_last_retry === 'mark_uncollectible') markUncollectible(ctx, invoice.id);
  if (id === undefined) return;
  if (after_last_retry === 'cancel') endSubscription(ctx, id, { reason: 'payment_failed' });
  if (after_last_retry === 'mark_unpaid') tellOverdue(ctx, invoice, 'unpaid');
}

/** @throws ApiError 400 unless it is open. */
export function markUncollectible(ctx: Context, id: string): InvoiceView {
  const { view: before } = findInvoice(ctx, id);
  if (before.status !== 'open') {
    throw badRequest(`Invoice ${id} is ${before.status}: only open invoices can be marked.`, {
      param: 'invoice',
    });
  }
  unschedule(ctx, 'retry_invoice', id);
  const marked = ctx.store.patch(invoices, id, {
    auto_advance: false,
    next_payment_attempt: null,
    status: 'uncollectible',
    status_transitions: { ...before.status_transitions, marked_uncollectible_at: seconds(ctx) },
  }).view;
  emit(ctx, 'invoice.marked_uncollectible', marked);
  return marked;
}

function markDelinquent(ctx: Context, customer: string, delinquent: boolean): void {
  const present = findCustomer(ctx, customer, 'customer', 400);
  if (present.delinquent !== delinquent) updateCustomer(ctx, customer, { delinquent });
}
