import type { ExpandRegistry } from './expand.ts';
import { accountRoutes } from './resources/account.ts';
import {
  balanceTransactionExpandable,
  balanceTransactionRoutes,
} from './resources/balanceTransactions.ts';
import { catalogueDeletionRoutes } from './resources/catalogueDeletion.ts';
import { chargeExpandable, chargeRoutes } from './resources/charges.ts';
import { itemExpandable, sessionExpandable, sessionRoutes } from './resources/checkoutSessions.ts';
import { coreEventRoutes } from './resources/coreEvents.ts';
import { couponRoutes } from './resources/coupons.ts';
import { creditNoteExpandable, creditNoteRoutes } from './resources/creditNotes.ts';
import { customerBalanceRoutes } from './resources/customerBalance.ts';
import { customerRoutes } from './resources/customerRoutes.ts';
import { disputeExpandable, disputeRoutes } from './resources/disputes.ts';
import { eventRoutes } from './resources/events.ts';
import { invoiceItemExpandable, invoiceItemRoutes } from './resources/invoiceItemRoutes.ts';
import { invoicePaymentExpandable, invoicePaymentRoutes } from './resources/invoicePayments.ts';
import { invoiceExpandable, invoiceLineExpandable, invoiceRoutes } from './resources/invoices.ts';
import { paymentIntentExpandable, paymentIntentRoutes } from './resources/paymentIntents.ts';
import { paymentMethodExpandable, paymentMethodRoutes } from './resources/paymentMethodRoutes.ts';
import { portalSessionRoutes } from './resources/portalSessions.ts';
import { priceExpandable, priceRoutes } from './resources/prices.ts';
import { productExpandable, productRoutes } from './resources/products.ts';
import { promotionCodeExpandable, promotionCodeRoutes } from './resources/promotionCodes.ts';
import { refundExpandable, refundRoutes } from './resources/refunds.ts';
import {
  subscriptionExpandable,
  subscriptionItemExpandable,
  subscriptionRoutes,
} from './resources/subscriptions.ts';
import { webhookEndpointRoutes } from './resources/webhookEndpoints.ts';
import type { Route } from './route.ts';

/** Every call of Stripe's API that the sandbox answers. Anything else is an error. */
export const apiRoutes: readonly Route[] = [
  ...accountRoutes,
  ...productRoutes,
  ...priceRoutes,
  ...catalogueDeletionRoutes,
  ...customerRoutes,
  ...customerBalanceRoutes,
  ...couponRoutes,
  ...promotionCodeRoutes,
  ...subscriptionRoutes,
  ...invoiceItemRoutes,
  ...sessionRoutes,
  ...paymentIntentRoutes,
  ...paymentMethodRoutes,
  ...chargeRoutes,
  ...refundRoutes,
  ...disputeRoutes,
  ...creditNoteRoutes,
  ...balanceTransactionRoutes,
  ...invoiceRoutes,
  ...invoicePaymentRoutes,
  ...eventRoutes,
  ...coreEventRoutes,
  ...webhookEndpointRoutes,
  ...portalSessionRoutes,
];

/** What can be expanded, by the `object` name of the resource. */
export const expandable: ExpandRegistry = {
  product: productExpandable,
  price: priceExpandable,
  'checkout.session': sessionExpandable,
  item: itemExpandable,
  payment_intent: paymentIntentExpandable,
  payment_method: paymentMethodExpandable,
  charge: chargeExpandable,
  refund: refundExpandable,
  dispute: disputeExpandable,
  credit_note: creditNoteExpandable,
  balance_transaction: balanceTransactionExpandable,
  invoice: invoiceExpandable,
  line_item: invoiceLineExpandable,
  invoice_payment: invoicePaymentExpandable,
  invoiceitem: invoiceItemExpandable,
  promotion_code: promotionCodeExpandable,
  subscription: subscriptionExpandable,
  subscription_item: subscriptionItemExpandable,
};
