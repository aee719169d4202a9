import { isStripeError, type StripeError } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';

/** Why an attempt at an event failed, as it is kept with the row. */
export interface Failure {
  /** Stable; dead letters are grouped by it. */
  code: string;
  /**
   * `transient`: it passes by itself. `permanent`: something has to change, at Stripe, in the
   * settings or in Purser. Both are tried again, for a change may come within the day.
   */
  cause: 'transient' | 'permanent';
  message: string;
  /** The next attempt may not come sooner. */
  retryAfterSeconds: number;
}

export function classifyFailure(error: unknown): Failure {
  const message = describe(error);
  const kind = kindOf(error);
  const retryAfterSeconds = error instanceof PurserError ? (error.retryAfterSeconds ?? 0) : 0;
  return { ...kind, message, retryAfterSeconds };
}

function kindOf(error: unknown): Pick<Failure, 'code' | 'cause'> {
  const origin = error instanceof PurserError ? error.cause : error;
  if (isStripeError(origin)) return kindOfStripe(origin);
  if (!(error instanceof PurserError)) return { code: 'internal', cause: 'permanent' };
  switch (error.code) {
    // The database: out of reach, too busy, or a lock was not to be had.
    case 'dependency_down':
      return { code: 'database_down', cause: 'transient' };
    case 'overloaded':
    case 'in_progress':
    case 'rate_limited':
      return { code: error.code, cause: 'transient' };
    default:
      return { code: error.code, cause: 'permanent' };
  }
}

function kindOfStripe({
  type,
  code,
  statusCode = 0,
}: StripeError): Pick<Failure, 'code' | 'cause'> {
  if (statusCode === 429 || type === 'StripeRateLimitError') {
    return {
      code: code === 'lock_timeout' ? 'stripe_object_locked' : 'stripe_rate_limited',
      cause: 'transient',
    };
  }
  if (type === 'StripeConnectionError') return { code: 'stripe_unreachable', cause: 'transient' };
  if (type === 'StripeAuthenticationError' || type === 'StripePermissionError') {
    return { code: 'stripe_key_refused', cause: 'permanent' };
  }
  if (statusCode >= 500 || type === 'StripeAPIError')
    return { code: 'stripe_error', cause: 'transient' };
  if (code === 'resource_missing') return { code: 'stripe_object_missing', cause: 'permanent' };
  return { code: 'stripe_request_refused', cause: 'permanent' };
}

function describe(error: unknown): string {
  if (error instanceof PurserError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
