/**
 * Every error a caller can meet, in one table: its stable code, the HTTP status it is answered
 * with, and its title. `detail` (what is wrong, where, what to do) is written where it is thrown.
 */
export const ERRORS = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  invalid_signature: { status: 400, title: 'The signature is not valid' },
  idempotency_key_missing: { status: 400, title: 'An Idempotency-Key header is required' },
  unauthenticated: { status: 401, title: 'Authentication is required' },
  insufficient_credits: { status: 402, title: 'Not enough credits' },
  suspended: { status: 403, title: 'The account is suspended' },
  forbidden: { status: 403, title: 'Not allowed' },
  not_found: { status: 404, title: 'Not found' },
  user_not_found: { status: 404, title: 'The user does not exist' },
  method_not_allowed: { status: 405, title: 'The method is not allowed here' },
  in_progress: { status: 409, title: 'The same request is still in progress' },
  hold_ended: { status: 409, title: 'The hold has ended' },
  payload_too_large: { status: 413, title: 'The request body is too large' },
  unsupported_media_type: { status: 415, title: 'The media type is not supported' },
  idempotency_key_reused: {
    status: 422,
    title: 'The Idempotency-Key was used for another request',
  },
  rate_limited: { status: 429, title: 'Too many requests' },
  internal: { status: 500, title: 'Internal error' },
  overloaded: { status: 503, title: 'The service is overloaded' },
  dependency_down: { status: 503, title: 'A dependency is not available' },
} as const;

export type ErrorCode = keyof typeof ERRORS;

export interface PurserErrorOptions {
  /** What is wrong, where, and what to do; shown to the caller, so it holds no secrets. */
  detail: string;
  /** Extension members of the problem document (balance, needed, errors, ...). */
  extensions?: Record<string, unknown>;
  /** Seconds after which the same request may succeed; becomes `Retry-After`. */
  retryAfterSeconds?: number;
  cause?: unknown;
}

/** The one error class: adapters wrap foreign errors in it once, at the border. */
export class PurserError extends Error {
  readonly code: ErrorCode;
  readonly extensions: Record<string, unknown>;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, options: PurserErrorOptions) {
    super(options.detail, { cause: options.cause });
    this.name = 'PurserError';
    this.code = code;
    this.extensions = options.extensions ?? {};
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }
}

/** True when the failure is of a dependency, so that the same work may succeed later. */
export function isRetryable(error: unknown): boolean {
  return (
    error instanceof PurserError &&
    (error.code === 'dependency_down' || error.code === 'overloaded')
  );
}
