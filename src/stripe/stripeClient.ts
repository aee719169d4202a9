import Stripe from 'stripe';

export interface StripeClientOptions {
  secretKey: string;
  /** Another origin than Stripe's own: the sandbox, or STRIPE_API_BASE. */
  apiBase?: string | undefined;
}

/** One attempt; the whole call stays well below the lease of an event. */
const TIMEOUT_MS = 10_000;
/** The SDK repeats POSTs under one idempotency key, so a lost answer makes nothing twice. */
const NETWORK_RETRIES = 2;

/** The official SDK, pinned to its own API version, pointed at Stripe or at the sandbox. */
export function createStripeClient({ secretKey, apiBase }: StripeClientOptions): Stripe {
  const base = apiBase === undefined ? null : new URL(apiBase);
  return new Stripe(secretKey, {
    timeout: TIMEOUT_MS,
    maxNetworkRetries: NETWORK_RETRIES,
    telemetry: false,
    ...(base === null
      ? {}
      : {
          protocol: base.protocol === 'https:' ? 'https' : 'http',
          host: base.hostname,
          port: base.port === '' ? (base.protocol === 'https:' ? 443 : 80) : Number(base.port),
        }),
  });
}

/** The version of Stripe's API in which this client asks and is answered. */
export const STRIPE_API_VERSION: string = Stripe.API_VERSION;
