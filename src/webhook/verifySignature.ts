import type Stripe from 'stripe';
import { PurserError } from '../core/errors.ts';
import type { Clock } from '../core/ports.ts';

export interface SignatureDeps {
  stripe: Stripe;
  /** Several while a secret is rotated; any of them counts. */
  secrets: string[];
  toleranceSeconds: number;
  clock: Clock;
}

/**
 * Checks a Stripe-Signature over the raw bytes. The SDK compares in constant time; on top of it
 * the time stamp must be a plain number within the tolerance both ways, since the SDK takes any
 * future time and a `t` that is no number. Only this time counts, never `created` of the event:
 * every retry is signed anew, for days. Errors: `invalid_signature`.
 */
export function verifySignature(
  { stripe, secrets, toleranceSeconds, clock }: SignatureDeps,
  rawBody: string,
  header: string | undefined,
): void {
  if (header === undefined || header === '') {
    throw refuse('The Stripe-Signature header is missing. Send the request as Stripe made it.');
  }
  const timestamps = header
    .split(',')
    .filter((part) => part.startsWith('t='))
    .map((part) => part.slice(2));
  const [timestamp] = timestamps;
  if (timestamp === undefined || timestamps.length !== 1 || !/^\d{1,12}$/.test(timestamp)) {
    throw refuse('The Stripe-Signature header must have one t=<unix seconds>.');
  }
  const age = Math.floor(clock.now().getTime() / 1000) - Number(timestamp);
  if (Math.abs(age) > toleranceSeconds) {
    throw refuse(
      `The signature was made ${Math.abs(age)} s ${age > 0 ? 'ago' : 'in the future'}; ${toleranceSeconds} s are allowed. Check both clocks.`,
    );
  }
  const { signature } = stripe.webhooks;
  if (signature === null) throw new Error('The Stripe SDK has no signature module.');
  let last: unknown;
  for (const secret of secrets) {
    try {
      // Tolerance 0 leaves the age to the check above, which knows the injected clock.
      signature.verifyHeader(rawBody, header, secret, 0);
      return;
    } catch (cause) {
      last = cause;
    }
  }
  throw refuse(
    'No configured secret signed this body. Set STRIPE_WEBHOOK_SECRET to the secret of this endpoint (each endpoint and `stripe listen` has its own), and let nothing parse the body before.',
    last,
  );
}

function refuse(detail: string, cause?: unknown): PurserError {
  return new PurserError('invalid_signature', { detail, cause });
}
