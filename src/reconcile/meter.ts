import { AsyncLocalStorage } from 'node:async_hooks';
import type Stripe from 'stripe';
import { isStripeError } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';

/** Waits after a refusal for too many requests, in seconds; after the last one the run pauses. */
const WAITS_SECONDS = [1, 2, 4, 8, 16] as const;
/** What Stripe asks for is kept up to this; a run that has to wait longer pauses instead. */
const WAIT_MAX_SECONDS = 30;

/** Counts the requests that one piece of work sends to Stripe, retries included. */
export interface StripeMeter {
  count<T>(work: (calls: () => number) => Promise<T>): Promise<T>;
}

export function createStripeMeter(stripe: Stripe): StripeMeter {
  const counters = new AsyncLocalStorage<{ calls: number }>();
  // The SDK tells of each request inside the work that sends it, so others' are not counted.
  stripe.on('request', () => {
    const counter = counters.getStore();
    if (counter !== undefined) counter.calls += 1;
  });
  return {
    count(work) {
      const counter = { calls: 0 };
      return counters.run(counter, () => work(() => counter.calls));
    },
  };
}

export interface Patience {
  pause: (ms: number) => Promise<void>;
  shouldStop: () => boolean;
}

/**
 * Repeats work that Stripe refuses because of too many requests, after a growing wait or the one it
 * asks for. Every other failure, and the last refusal, is the caller's.
 */
export async function politely<T>(
  { pause, shouldStop }: Patience,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const wait = WAITS_SECONDS[attempt];
      if (!isRateLimit(error) || wait === undefined || shouldStop()) throw error;
      const asked = error instanceof PurserError ? askedSeconds(error) : 0;
      if (asked > WAIT_MAX_SECONDS) throw error;
      await pause(Math.max(wait, asked) * 1000);
    }
  }
}

function isRateLimit(error: unknown): boolean {
  const cause = error instanceof PurserError ? error.cause : error;
  return isStripeError(cause) && cause.statusCode === 429;
}

/** Only what Stripe itself named: our own default is no request to wait. */
function askedSeconds(error: PurserError): number {
  const { cause } = error;
  const header = isStripeError(cause) ? Number(cause.headers?.['retry-after']) : Number.NaN;
  return Number.isFinite(header) && header > 0 ? header : 0;
}
