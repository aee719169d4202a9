import type { ApiFaultsRow } from './apiFaults.ts';
import type { RestrictedKey } from './apiKeys.ts';
import type { ClockRow } from './clock.ts';
import type { CoreEventView } from './coreEvents.ts';
import type { DeliveryView } from './deliveries.ts';
import type { EventHidden, EventView } from './events.ts';
import type { FaultsRow } from './faults.ts';
import type { SavedAnswer } from './idempotency.ts';
import type { BalanceRow, BalanceTransactionView } from './resources/balanceTransactions.ts';
import type { ChargeView } from './resources/charges.ts';
import type { SessionHidden, SessionView } from './resources/checkoutSessions.ts';
import type { CreditNoteHidden, CreditNoteView } from './resources/creditNoteView.ts';
import type { CustomerView } from './resources/customers.ts';
import type { DisputeView } from './resources/disputeView.ts';
import type { InvoicePaymentView } from './resources/invoicePayments.ts';
import type { InvoiceLineView, InvoiceView } from './resources/invoices.ts';
import type { PaymentIntentView } from './resources/paymentIntents.ts';
import type { PaymentMethodView } from './resources/paymentMethods.ts';
import type { PortalSessionView } from './resources/portalSessions.ts';
import type { PriceHidden, PriceView } from './resources/priceFactory.ts';
import type { ProductView } from './resources/products.ts';
import type { RefundHidden, RefundView } from './resources/refundView.ts';
import type { EndpointHidden, WebhookEndpointView } from './resources/webhookEndpoints.ts';
import { collection } from './store.ts';
import type { Task, TaskHidden } from './tasks.ts';

/** Every kind of row the sandbox keeps. A new resource adds its line here. */
export const products = collection<ProductView, Nothing>('products');
export const prices = collection<PriceView, PriceHidden>('prices');
export const customers = collection<CustomerView, Nothing>('customers');
export const sessions = collection<SessionView, SessionHidden>('checkout_sessions');
export const paymentMethods = collection<PaymentMethodView, Nothing>('payment_methods');
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
export const invoices = collection<InvoiceView, { lines: InvoiceLineView[] }>('invoices');
export const invoicePayments = collection<InvoicePaymentView, Nothing>('invoice_payments', {
  invoice: ({ view }) => view.invoice,
  payment_intent: ({ view }) => view.payment.payment_intent,
});
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
export const tasks = collection<Task, TaskHidden>('tasks');
export const savedAnswers = collection<SavedAnswer, Nothing>('idempotency_keys');

/** For rows that hide nothing. */
export type Nothing = Record<string, never>;
