import type { ApiFault } from './apiFaults.ts';
import type { BookReport } from './books.ts';
import type { Catalogue } from './catalogue.ts';
import type { AdvanceAnswer, ClockAnswer } from './controlClock.ts';
import type { DeliveryView } from './deliveries.ts';
import type { Faults } from './faults.ts';
import type {
  DisputeKind,
  DisputeReason,
  DisputeStatus,
  DisputeView,
} from './resources/disputeView.ts';
import type { FailureReason, RefundCourse, RefundView } from './resources/refundView.ts';
import type { SubscriptionView } from './resources/subscriptionView.ts';
import type { Secrets } from './secrets.ts';
import type { Settings } from './settings.ts';
import type { SandboxStatus } from './statusControl.ts';

/** How far: exactly one of them. */
export interface AdvanceBy {
  /** Unix seconds, a day like `2027-01-31` (its first moment, UTC), or a moment with its time zone. */
  readonly to?: number | string;
  readonly seconds?: number;
  readonly hours?: number;
  readonly days?: number;
}

/** How a session is paid without a browser. */
export interface PayOptions {
  /** Default `succeeded`. The two `..._later` ways are bank debits, unpaid at first. */
  readonly outcome?: 'succeeded' | 'declined' | 'settles_later' | 'fails_later';
  /** A Stripe test card; overrides the card of the outcome. */
  readonly card_number?: string;
  readonly email?: string;
  readonly name?: string;
  /** As the buyer types it, where the session allows promotion codes. */
  readonly promotion_code?: string;
  /** By line item id, where the session lets quantities be changed. */
  readonly quantities?: Readonly<Record<string, number>>;
}

export interface BuyOptions extends Omit<PayOptions, 'quantities'> {
  /** Id or lookup key. */
  readonly price: string;
  readonly quantity?: number;
  /** One that exists; else the buyer is new. */
  readonly customer?: string;
  /** Makes an invoice of a one-time purchase. */
  readonly invoice?: boolean;
  readonly client_reference_id?: string;
  /** Of a plan only. */
  readonly trial_days?: number;
  /** Also of the payment intent or the subscription. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** False: only the open session, to be paid by hand at its `url`. Default true. */
  readonly pay?: boolean;
}

export interface PayResult {
  readonly outcome: 'complete' | 'declined';
  readonly session: BoughtSession;
  readonly redirect_url: string | null;
}

interface BoughtSession {
  readonly id: string;
  readonly payment_status: string;
  readonly customer: string | null;
  readonly invoice: string | null;
  readonly payment_intent: string | null;
  readonly subscription: string | null;
  readonly url: string | null;
}

export interface BuyResult {
  /** `open`: it was not to be paid yet. */
  readonly outcome: 'complete' | 'declined' | 'open';
  readonly session: BoughtSession;
}

export interface RefundOptions {
  /** Default: all that is left. */
  readonly amount?: number;
  /** Default: what the card does. `fails_later` succeeds first. */
  readonly course?: RefundCourse;
  readonly reason?: 'duplicate' | 'fraudulent' | 'requested_by_customer';
}

export interface DisputeOptions {
  /** `dispute` (default) takes the money at once; `inquiry` only asks; `prevented` was refunded. */
  readonly kind?: DisputeKind;
  /** Default: what is left of the charge after refunds, or all of it when nothing is. */
  readonly amount?: number;
  /** Default `fraudulent`. */
  readonly reason?: DisputeReason;
}

export interface FailOptions {
  /** Default 1. */
  readonly times?: number;
  /** E.g. `insufficient_funds`; default `generic_decline`. */
  readonly decline_code?: string;
}

export interface CancelOptions {
  /** It goes on until its period is over. */
  readonly at_period_end?: boolean;
  /** Of an end now: the rest of the period becomes credit. */
  readonly prorate?: boolean;
}

export interface PayInvoiceOptions {
  /** Less than what remains: a partial payment. */
  readonly amount?: number;
  readonly out_of_band?: boolean;
}

export interface Billed {
  /** Null when there was nothing to bill. */
  readonly invoice: {
    readonly id: string;
    readonly status: string;
    readonly amount_paid: number;
  } | null;
}

/** A running sandbox, in this process or in another one. Every call rejects with a clear error. */
export interface Sandbox extends Secrets {
  /** E.g. `http://127.0.0.1:4010`. Changes only when a joined sandbox had to move. */
  readonly origin: string;
  readonly host: string;
  readonly port: number;
  /** True while another process serves it. */
  readonly joined: boolean;
  /** Ends this process's part: closes the server it owns, or only stops watching a joined one. */
  stop(): Promise<void>;
  /**
   * Makes sure that events are sent to `url`; repeatable. With `name` the endpoint of that name is
   * moved to the new URL, which keeps a server on a changing port from leaving dead endpoints.
   * Without `secret` an existing endpoint keeps its own and a new one gets `webhookSecret`.
   */
  ensureWebhookEndpoint(given: {
    url: string;
    secret?: string | undefined;
    name?: string | undefined;
    enabledEvents?: string[] | undefined;
    /** The shape of its events, e.g. `2024-06-20`. Default: the newest. */
    apiVersion?: string | undefined;
    /** `thin`: notifications of the second API, with types like `v1.invoice.paid`. */
    payload?: 'snapshot' | 'thin' | undefined;
  }): Promise<{ id: string; secret: string }>;
  /** Creates or updates products and prices with these ids; repeatable. */
  seedCatalogue(catalogue: Catalogue): Promise<void>;
  /** Deletes a price that was never used, as in Stripe's dashboard: its API deletes none. */
  deletePrice(priceId: string): Promise<void>;
  pay(sessionId: string, options?: PayOptions): Promise<PayResult>;
  /** Ends a bank debit now. */
  settle(sessionId: string, outcome?: 'succeeded' | 'failed'): Promise<void>;
  /** Somebody, who need not be a customer yet, buys without a shop: a session, paid at once. */
  buy(order: BuyOptions): Promise<BuyResult>;
  /**
   * Sends money back with a course of your choice; `stripe.refunds.create` does what the card does.
   * `paid` is a charge or what was paid with it: a payment intent, session, invoice or
   * subscription; or `last`.
   */
  refund(paid: string, options?: RefundOptions): Promise<RefundView>;
  /** Ends a refund now, also one that had succeeded: banks send money back days later. */
  endRefund(
    refundId: string,
    status: 'succeeded' | 'failed' | 'canceled',
    reason?: FailureReason,
  ): Promise<RefundView>;
  /** The holder of the card goes to his bank. `paid` as for `refund`. */
  dispute(paid: string, options?: DisputeOptions): Promise<DisputeView>;
  /** The bank decides; moves Stripe does not know are refused. */
  decideDispute(disputeId: string, status: DisputeStatus): Promise<DisputeView>;
  /** Time, money, objects, endpoints, deliveries and faults in one answer. */
  status(): Promise<SandboxStatus>;
  /** Compares all that speaks of the same money: charges, refunds, disputes, invoices, balances. */
  checkBooks(): Promise<BookReport>;
  /** The account's time. */
  clock(): Promise<ClockAnswer>;
  /**
   * Moves the account's time ahead; everything due on the way happens at its own instant, in order,
   * and its webhooks are sent and answered before the next instant. `onProgress` is told after each
   * piece of a long way.
   */
  advance(by: AdvanceBy, onProgress?: (so: AdvanceAnswer) => void): Promise<AdvanceAnswer>;
  /** Time stands still until `flow` or `advance`: with a seed everything becomes repeatable. */
  freeze(): Promise<ClockAnswer>;
  flow(): Promise<ClockAnswer>;
  /** Replaces the faults of deliveries by one rule or several; `{}` ends them. */
  setFaults(faults: Faults | readonly Faults[]): Promise<void>;
  /** Replaces the faults of Stripe's API (429, 5xx, lost answers); none ends them. */
  setApiFaults(...rules: readonly ApiFault[]): Promise<void>;
  /** A key that may only do this, e.g. `{customer: 'write', invoice: 'read'}`. */
  restrictedKey(permissions: Readonly<Record<string, 'read' | 'write'>>): Promise<string>;
  /** The default card of a customer and of his subscriptions from now on: one of Stripe's numbers. */
  setCard(customerId: string, cardNumber: string): Promise<void>;
  /** His next payments are refused, whatever his card is; 0 calls it off. */
  failNextPayments(customerId: string, options?: FailOptions): Promise<void>;
  /** Ends the current period now and bills the next one at once. */
  renew(subscriptionId: string): Promise<Billed>;
  /** Ends a subscription now, or plans its end; `stripe.subscriptions.cancel` does the first too. */
  cancelSubscription(subscriptionId: string, options?: CancelOptions): Promise<SubscriptionView>;
  /** The unused time becomes credit of the customer's next invoice. */
  pauseSubscription(subscriptionId: string): Promise<SubscriptionView>;
  resumeSubscription(subscriptionId: string): Promise<SubscriptionView>;
  /** Pays an open invoice, or a part of it, also after failures. */
  payInvoice(invoiceId: string, options?: PayInvoiceOptions): Promise<Billed>;
  /** Changes what is set in Stripe's dashboard, and how the sandbox works; the rest stays. */
  setSettings(change: Partial<Settings>): Promise<Settings>;
  /** Newest first, at most 1,000. */
  deliveries(filter?: { event?: string; type?: string; status?: string }): Promise<DeliveryView[]>;
  /** Sends an event once more, with a fresh signature. */
  resend(eventId: string, endpointId?: string): Promise<void>;
}
