import type { ApiFault } from './apiFaults.ts';
import type { BookReport } from './books.ts';
import type { Catalogue } from './catalogue.ts';
import type { AdvanceAnswer, ClockAnswer } from './controlClock.ts';
import type { DeliveryView } from './deliveries.ts';
import type { Faults } from './faults.ts';
import { askLocal } from './localJson.ts';
import type {
  DisputeKind,
  DisputeReason,
  DisputeStatus,
  DisputeView,
} from './resources/disputeView.ts';
import type { FailureReason, RefundCourse, RefundView } from './resources/refundView.ts';
import type { Secrets } from './secrets.ts';
import type { Settings } from './settings.ts';

const CALL_TIMEOUT_MS = 10_000;
/** Of one piece of an advance: it may wait for endpoints that do not answer. */
const ADVANCE_TIMEOUT_MS = 300_000;
/** Pieces of one advance; with the steps of each a bound on what one call may set in motion. */
const ADVANCE_PIECES_MAX = 10_000;

/** How far: exactly one of them. */
export interface AdvanceBy {
  /** Unix seconds, or an ISO date with its time zone. */
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
  /** Of a plan: its first days are free. */
  readonly trial_days?: number;
  readonly client_reference_id?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface PayResult {
  readonly outcome: 'complete' | 'declined';
  readonly session: { readonly id: string; readonly payment_status: string };
  readonly redirect_url: string | null;
}

export interface FailOptions {
  /** Default 1. */
  readonly times?: number;
  /** E.g. `insufficient_funds`; default `generic_decline`. */
  readonly decline_code?: string;
}

export interface PayInvoiceOptions {
  /** Less than what remains: a partial payment. */
  readonly amount?: number;
  readonly out_of_band?: boolean;
}

export interface Billed {
  readonly invoice: { readonly id: string; readonly status: string; readonly amount_paid: number };
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
  /** Default: what is left of the charge after refunds. */
  readonly amount?: number;
  /** Default `fraudulent`. */
  readonly reason?: DisputeReason;
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
  pay(sessionId: string, options?: PayOptions): Promise<PayResult>;
  /** Ends a bank debit now. */
  settle(sessionId: string, outcome?: 'succeeded' | 'failed'): Promise<void>;
  /** Buys something without a shop: a checkout session, paid at once. */
  buy(order: BuyOptions): Promise<PayResult>;
  /**
   * Sends money back with a course of your choice; `stripe.refunds.create` does what the card does.
   * `paid` is a charge or what was paid with it: a payment intent, session or invoice; or `last`.
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
  /** The default card of a customer and of his subscriptions from now on: one of Stripe's numbers. */
  setCard(customerId: string, cardNumber: string): Promise<void>;
  /** His next payments are refused, whatever his card is; 0 calls it off. */
  failNextPayments(customerId: string, options?: FailOptions): Promise<void>;
  /** Ends the current period now and bills the next one at once. */
  renew(subscriptionId: string): Promise<Billed>;
  /** Pays an open invoice, or a part of it, also after failures. */
  payInvoice(invoiceId: string, options?: PayInvoiceOptions): Promise<Billed>;
  /** Changes what is set in Stripe's dashboard, and how the sandbox works; the rest stays. */
  setSettings(change: Partial<Settings>): Promise<Settings>;
  /** Replaces the faults of deliveries by one rule or several; `{}` ends them. */
  setFaults(faults: Faults | readonly Faults[]): Promise<void>;
  /** Replaces the faults of Stripe's API (429, 5xx, lost answers); none ends them. */
  setApiFaults(...rules: readonly ApiFault[]): Promise<void>;
  /** A key that may only do this, e.g. `{customer: 'write', invoice: 'read'}`. */
  restrictedKey(permissions: Readonly<Record<string, 'read' | 'write'>>): Promise<string>;
  /** Newest first, at most 1,000. */
  deliveries(filter?: { event?: string; type?: string; status?: string }): Promise<DeliveryView[]>;
  /** Sends an event once more, with a fresh signature. */
  resend(eventId: string, endpointId?: string): Promise<void>;
}

type Calls = Omit<Sandbox, 'origin' | 'host' | 'port' | 'joined' | 'stop' | keyof Secrets>;

/** Everything goes through the control API, so it is the same for an owner and for who joined. */
export function createCalls(origin: () => string): Calls {
  async function call<T>(
    method: string,
    path: string,
    body?: unknown,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<T> {
    const answer = await askLocal(method, `${origin()}/_sandbox/${path}`, body, timeoutMs);
    if (answer.status === 200) return answer.body as T;
    const { error } = (answer.body ?? {}) as { error?: { message: string } };
    throw new Error(`Stripe sandbox: ${error?.message ?? `HTTP ${answer.status}`}`);
  }
  const segment = encodeURIComponent;
  const customer = (id: string) => `customers/${segment(id)}`;
  const session = (id: string) => `checkout/sessions/${segment(id)}`;
  return {
    ensureWebhookEndpoint: ({ enabledEvents, apiVersion, ...given }) =>
      call('PUT', 'webhook_endpoint', {
        ...given,
        enabled_events: enabledEvents,
        api_version: apiVersion,
      }),
    async seedCatalogue(catalogue) {
      await call('PUT', 'catalogue', catalogue);
    },
    pay: (id, options = {}) => call('POST', `${session(id)}/pay`, options),
    buy: (order) => call('POST', 'buy', order),
    async settle(id, outcome = 'succeeded') {
      await call('POST', `${session(id)}/settle`, { outcome });
    },
    async setCard(id, cardNumber) {
      await call('POST', `${customer(id)}/card`, { card_number: cardNumber });
    },
    async failNextPayments(id, options = {}) {
      await call('POST', `${customer(id)}/fail_payments`, options);
    },
    renew: (id) => call('POST', `subscriptions/${segment(id)}/renew`, {}),
    payInvoice: (id, options = {}) => call('POST', `invoices/${segment(id)}/pay`, options),
    setSettings: (change) => call('PUT', 'settings', change),
    refund: async (id, options = {}) =>
      (await call<{ refund: RefundView }>('POST', `charges/${segment(id)}/refund`, options)).refund,
    endRefund: async (id, status, reason) =>
      (await call<{ refund: RefundView }>('POST', `refunds/${segment(id)}/end`, { status, reason }))
        .refund,
    dispute: async (id, options = {}) =>
      (await call<{ dispute: DisputeView }>('POST', `charges/${segment(id)}/dispute`, options))
        .dispute,
    decideDispute: async (id, status) =>
      (await call<{ dispute: DisputeView }>('POST', `disputes/${segment(id)}/decide`, { status }))
        .dispute,
    checkBooks: () => call('GET', 'books'),
    clock: () => call('GET', 'clock'),
    async advance(by, onProgress) {
      let next: AdvanceBy = by;
      let tasks = 0;
      let attempts = 0;
      for (let piece = 0; piece < ADVANCE_PIECES_MAX; piece += 1) {
        const so = await call<AdvanceAnswer>('POST', 'clock/advance', next, ADVANCE_TIMEOUT_MS);
        tasks += so.tasks;
        attempts += so.attempts;
        const sum = { ...so, tasks, attempts };
        onProgress?.(sum);
        if (so.done) return sum;
        next = { to: so.target_iso };
      }
      throw new Error('Stripe sandbox: there is always more due; the advance was given up.');
    },
    freeze: () => call('POST', 'clock/freeze', {}),
    flow: () => call('POST', 'clock/flow', {}),
    async setFaults(faults) {
      await call('PUT', 'faults', { rules: [faults].flat() });
    },
    async setApiFaults(...rules) {
      await call('PUT', 'api_faults', { rules });
    },
    restrictedKey: async (permissions) =>
      (await call<{ key: string }>('POST', 'restricted_keys', { permissions })).key,
    async deliveries(filter = {}) {
      const query = new URLSearchParams(filter);
      return (await call<{ data: DeliveryView[] }>('GET', `deliveries?${query}`)).data;
    },
    async resend(id, endpoint) {
      await call('POST', `events/${segment(id)}/resend`, { endpoint });
    },
  };
}
