import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { callStripe } from '../../src/checkout/stripeErrors.ts';
import { EVENT_RETRY_SECONDS, retryDelaySeconds } from '../../src/core/backoff.ts';
import { PurserError } from '../../src/core/errors.ts';
import { classifyFailure } from '../../src/webhook/failure.ts';

/** An error as the SDK makes it of an answer, having come through our border. */
async function fromStripe(error: Error): Promise<unknown> {
  return callStripe(() => Promise.reject(error)).catch((caught: unknown) => caught);
}

const raw = (fields: Record<string, unknown>) =>
  fields as unknown as ConstructorParameters<typeof Stripe.errors.StripeAPIError>[0];
const { errors } = Stripe;

describe('a failed attempt at an event', () => {
  it.each<[string, Error, string, string]>([
    [
      'no way to Stripe',
      new errors.StripeConnectionError(raw({ message: 'x' })),
      'stripe_unreachable',
      'transient',
    ],
    [
      'a 5xx',
      new errors.StripeAPIError(raw({ message: 'x', statusCode: 503 })),
      'stripe_error',
      'transient',
    ],
    [
      '429',
      new errors.StripeRateLimitError(raw({ message: 'x', statusCode: 429 })),
      'stripe_rate_limited',
      'transient',
    ],
    [
      'an object that is locked',
      new errors.StripeRateLimitError(raw({ message: 'x', statusCode: 429, code: 'lock_timeout' })),
      'stripe_object_locked',
      'transient',
    ],
    [
      'a wrong key',
      new errors.StripeAuthenticationError(raw({ message: 'x', statusCode: 401 })),
      'stripe_key_refused',
      'permanent',
    ],
    [
      'an object that is gone',
      new errors.StripeInvalidRequestError(
        raw({ message: 'x', statusCode: 404, code: 'resource_missing' }),
      ),
      'stripe_object_missing',
      'permanent',
    ],
    [
      'a request that is wrong',
      new errors.StripeInvalidRequestError(raw({ message: 'x', statusCode: 400 })),
      'stripe_request_refused',
      'permanent',
    ],
    [
      'the database',
      new PurserError('dependency_down', { detail: 'x' }),
      'database_down',
      'transient',
    ],
    [
      'a payment that keeps moving',
      new PurserError('in_progress', { detail: 'x' }),
      'in_progress',
      'transient',
    ],
    [
      'a payload that is none',
      new PurserError('invalid_request', { detail: 'x' }),
      'invalid_request',
      'permanent',
    ],
    ['a defect', new TypeError('x is not a function'), 'internal', 'permanent'],
  ])('is told by its cause: %s', async (_what, error, code, cause) => {
    expect(classifyFailure(await fromStripe(error))).toMatchObject({ code, cause });
  });

  it('waits as long as Stripe asks for, within bounds', async () => {
    const limited = (seconds: string) =>
      fromStripe(
        new errors.StripeRateLimitError(
          raw({ message: 'x', statusCode: 429, headers: { 'retry-after': seconds } }),
        ),
      ).then((error) => classifyFailure(error).retryAfterSeconds);
    expect(await limited('120')).toBe(120);
    expect(await limited('999999')).toBe(3600);
    expect(await limited('soon')).toBe(5);
  });

  it('is tried for 24 hours at least, also with the least jitter', () => {
    const waits = Array.from({ length: 30 }, (_, n) => retryDelaySeconds(n + 1, () => 0));
    const sum = waits.reduce<number>((total, wait) => total + (wait ?? 0), 0);
    expect(sum).toBeGreaterThanOrEqual(24 * 3600);
    expect(waits[EVENT_RETRY_SECONDS.length]).toBeNull();
  });
});
