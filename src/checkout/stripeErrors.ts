import { PurserError } from '../core/errors.ts';

export interface StripeError extends Error {
  type: string;
  code?: string;
  param?: string;
  statusCode?: number;
  requestId?: string;
  headers?: Record<string, string | undefined>;
}

/** A wait that Stripe asks for is kept, but not beyond this: it is a header, not a promise. */
const RETRY_AFTER_MAX_SECONDS = 3600;
/** Where Stripe names no wait. */
const RETRY_AFTER_SECONDS = 5;

export function isStripeError(error: unknown): error is StripeError {
  return error instanceof Error && 'type' in error && String(error.type).startsWith('Stripe');
}

/** True when Stripe says that the object (of that parameter, where given) does not exist. */
export function isMissingAtStripe(error: unknown, param?: string): boolean {
  const cause = error instanceof PurserError ? error.cause : error;
  return (
    isStripeError(cause) &&
    cause.code === 'resource_missing' &&
    (param === undefined || cause.param === param)
  );
}

/**
 * Runs one call of the Stripe SDK and turns its errors into ours, once. Stripe's own words are
 * kept: they name the parameter or the missing permission.
 */
export async function callStripe<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    if (!isStripeError(cause)) throw cause;
    const request = cause.requestId ? ` (Stripe request ${cause.requestId})` : '';
    switch (cause.type) {
      case 'StripeIdempotencyError':
        throw new PurserError('idempotency_key_reused', {
          detail: 'The Idempotency-Key was used for another checkout. Use a new key.',
          cause,
        });
      case 'StripeAuthenticationError':
      case 'StripePermissionError':
        throw new PurserError('dependency_down', {
          detail: `Stripe refuses our key: ${cause.message}${request}. Check STRIPE_SECRET_KEY and its permissions.`,
          cause,
        });
      case 'StripeInvalidRequestError':
        throw new PurserError(cause.code === 'resource_missing' ? 'not_found' : 'dependency_down', {
          detail: `Stripe: ${cause.message}${request}`,
          cause,
        });
      default:
        throw new PurserError('dependency_down', {
          detail: `Stripe does not answer as it should: ${cause.message}${request}. Try again shortly.`,
          retryAfterSeconds: retryAfterOf(cause),
          cause,
        });
    }
  }
}

/** Seconds, as the header `Retry-After` of Stripe's answer says. */
function retryAfterOf({ headers }: StripeError): number {
  const seconds = Number(headers?.['retry-after']);
  return Number.isFinite(seconds) && seconds > 0
    ? Math.min(seconds, RETRY_AFTER_MAX_SECONDS)
    : RETRY_AFTER_SECONDS;
}
