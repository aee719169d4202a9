import type { AdvanceAnswer } from './controlClock.ts';
import type { DeliveryView } from './deliveries.ts';
import type { AdvanceBy, Sandbox } from './handle.types.ts';
import { askLocal } from './localJson.ts';
import type { DisputeView } from './resources/disputeView.ts';
import type { RefundView } from './resources/refundView.ts';
import type { SubscriptionView } from './resources/subscriptionView.ts';
import type { Secrets } from './secrets.ts';

/** Generous, for a process that is busy with a year: it only bounds how long a hung one is waited for. */
const CALL_TIMEOUT_MS = 60_000;
/** Of one piece of an advance: it may wait for endpoints that do not answer. */
const ADVANCE_TIMEOUT_MS = 300_000;
/** Pieces of one advance; with the steps of each a bound on what one call may set in motion. */
const ADVANCE_PIECES_MAX = 10_000;

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
  const session = (id: string) => `checkout/sessions/${segment(id)}`;
  const customer = (id: string) => `customers/${segment(id)}`;
  const subscription = async (id: string, move: string, body: object) =>
    (
      await call<{ subscription: SubscriptionView }>(
        'POST',
        `subscriptions/${segment(id)}/${move}`,
        body,
      )
    ).subscription;
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
    async deletePrice(id) {
      await call('POST', `prices/${segment(id)}/delete`, {});
    },
    pay: (id, options = {}) => call('POST', `${session(id)}/pay`, options),
    buy: (order) => call('POST', 'buy', order),
    async settle(id, outcome = 'succeeded') {
      await call('POST', `${session(id)}/settle`, { outcome });
    },
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
    status: () => call('GET', 'status'),
    checkBooks: () => call('GET', 'books'),
    async setCard(id, cardNumber) {
      await call('POST', `${customer(id)}/card`, { card_number: cardNumber });
    },
    async failNextPayments(id, options = {}) {
      await call('POST', `${customer(id)}/fail_payments`, options);
    },
    renew: (id) => call('POST', `subscriptions/${segment(id)}/renew`, {}),
    cancelSubscription: (id, options = {}) => subscription(id, 'cancel', options),
    pauseSubscription: (id) => subscription(id, 'pause', {}),
    resumeSubscription: (id) => subscription(id, 'resume', {}),
    payInvoice: (id, options = {}) => call('POST', `invoices/${segment(id)}/pay`, options),
    setSettings: (change) => call('PUT', 'settings', change),
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
