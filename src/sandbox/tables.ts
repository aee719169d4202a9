import type { ApiFaultsRow } from './apiFaults.ts';
import type { RestrictedKey } from './apiKeys.ts';
import type { CustomerBalanceTransactionView } from './billing/customerBalance.ts';
import type { DiscountView } from './billing/discounts.ts';
import type { NextFailuresRow } from './billing/nextFailures.ts';
import type { ClockRow } from './clock.ts';
import type { CoreEventView } from './coreEvents.ts';
import type { DeliveryView } from './deliveries.ts';
import type { EventHidden, EventView } from './events.ts';
import type { FaultsRow } from './faults.ts';
import type { SavedAnswer } from './idempotency.ts';
import type { BalanceRow, BalanceTransactionView } from './resources/balanceTransactions.ts';
import type { ChargeView } from './resources/charges.ts';
import type { SessionHidden, SessionView } from './resources/checkoutSessions.ts';
import type { CouponView } from './resources/coupons.ts';
import type { CreditNoteHidden, CreditNoteView } from './resources/creditNoteView.ts';
import type { CustomerView } from './resources/customers.ts';
import type { DisputeView } from './resources/disputeView.ts';
import type { InvoiceItemView } from './resources/invoiceItems.ts';
import type { InvoicePaymentView } from './resources/invoicePayments.ts';
import type { InvoiceHidden, InvoiceView } from './resources/invoiceView.ts';
import type { PaymentIntentView } from './resources/paymentIntents.ts';
import type { MethodHidden, PaymentMethodView } from './resources/paymentMethods.ts';
import type { PortalSessionView } from './resources/portalSessions.ts';
import type { PriceHidden, PriceView } from './resources/priceFactory.ts';
import type { ProductView } from './resources/products.ts';
import type { PromotionCodeView } from './resources/promotionCodes.ts';
import type { RefundHidden, RefundView } from './resources/refundView.ts';
import type { SubscriptionHidden, SubscriptionView } from './resources/subscriptionView.ts';
import type { EndpointHidden, WebhookEndpointView } from './resources/webhookEndpoints.ts';
import type { SettingsRow } from './settings.ts';
import { collection } from './store.ts';
import type { Task, TaskHidden } from './tasks.ts';

/** Every kind of row the sandbox keeps. A new resource adds its line here. */
export const products = collection<ProductView, Nothing>('products');
export const prices = collection<PriceView, PriceHidden>('prices');
export const customers = collection<CustomerView, Nothing>('customers');
export const sessions = collection<SessionView, SessionHidden>('checkout_sessions');
export const paymentMethods = collection<PaymentMethodView, MethodHidden>('payment_methods', {
  customer: ({ view }) => view.customer,
});
export const paymentIntents = collection<PaymentIntentView, Nothing>('payment_intents');
export const charges = collection<ChargeView, Nothing>('charges');
export const balances = collection<BalanceRow, Nothing>('balances');
export const balanceTransactions = collection<BalanceTransactionView, Nothing>(
  'balance_transactions',
);
export const refunds = collection<RefundView, RefundHidden>('refunds', {
  charge: ({ view }) => view.charge,
});
export const disputes = collection<DisputeView, Nothing>('disputes', {
  charge: ({ view }) => view.charge,
});
export const creditNotes = collection<CreditNoteView, CreditNoteHidden>('credit_notes', {
  invoice: ({ view }) => view.invoice,
});
export const invoicePayments = collection<InvoicePaymentView, Nothing>('invoice_payments', {
  invoice: ({ view }) => view.invoice,
  payment_intent: ({ view }) => view.payment.payment_intent,
});
export const invoices = collection<InvoiceView, InvoiceHidden>('invoices', {
  customer: ({ view }) => view.customer,
  subscription: ({ view }) => view.parent?.subscription_details.subscription ?? null,
});
export const invoiceItems = collection<InvoiceItemView, Nothing>('invoice_items', {
  // Those that wait for the customer's next invoice.
  pending: ({ view }) => (view.invoice === null ? view.customer : null),
  invoice: ({ view }) => view.invoice,
});
export const subscriptions = collection<SubscriptionView, SubscriptionHidden>('subscriptions', {
  customer: ({ view }) => view.customer,
});
export const coupons = collection<CouponView, { deleted: boolean }>('coupons');
export const promotionCodes = collection<PromotionCodeView, Nothing>('promotion_codes');
export const discounts = collection<DiscountView, Nothing>('discounts');
export const customerBalanceTransactions = collection<CustomerBalanceTransactionView, Nothing>(
  'customer_balance_transactions',
  { customer: ({ view }) => view.customer },
);
export const nextFailures = collection<NextFailuresRow, Nothing>('next_failures');
export const portalSessions = collection<PortalSessionView, Nothing>('portal_sessions');
export const webhookEndpoints = collection<WebhookEndpointView, EndpointHidden>(
  'webhook_endpoints',
);
export const events = collection<EventView, EventHidden>('events');
export const coreEvents = collection<CoreEventView, Nothing>('core_events');
export const deliveries = collection<DeliveryView, Nothing>('deliveries');
export const apiFaultRules = collection<ApiFaultsRow, Nothing>('api_faults');
export const restrictedKeys = collection<RestrictedKey, Nothing>('restricted_keys');
export const faults = collection<FaultsRow, Nothing>('faults');
export const clocks = collection<ClockRow, Nothing>('clock');
export const settings = collection<SettingsRow, Nothing>('settings');
export const tasks = collection<Task, TaskHidden>('tasks');
export const savedAnswers = collection<SavedAnswer, Nothing>('idempotency_keys');

/** For rows that hide nothing. */
export type Nothing = Record<string, never>;
