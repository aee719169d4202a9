/**
 * Errors in the shape Stripe's API answers them: `{"error": {"type", "code", "param", "message"}}`.
 * The official SDK picks its error class by HTTP status and `type`, so both are part of the contract.
 */
type ErrorType =
  | 'invalid_request_error'
  | 'idempotency_error'
  | 'card_error'
  | 'api_error'
  | 'authentication_error';

interface ErrorBody {
  readonly type: ErrorType;
  readonly message: string;
  readonly code?: string;
  readonly param?: string;
  readonly decline_code?: string;
}

export class ApiError extends Error {
  readonly status: number;
  readonly body: ErrorBody;
  /** What was done before it stays done: a refused payment is an answer, not a broken request. */
  readonly keepsChanges: boolean;

  constructor(status: number, body: ErrorBody, keepsChanges = false) {
    super(body.message);
    this.name = 'ApiError';
    this.status = status;
    this.body = body;
    this.keepsChanges = keepsChanges;
  }
}

/** 402, as Stripe answers a refused card. */
export function cardError(
  refusal: { code: string; decline_code: string | null; message: string },
  keepsChanges: boolean,
): ApiError {
  const { code, decline_code, message } = refusal;
  const declined = decline_code === null ? {} : { decline_code };
  return new ApiError(402, { type: 'card_error', code, message, ...declined }, keepsChanges);
}

/** 400: the request itself is wrong. `param` uses the form spelling, e.g. `line_items[0][price]`. */
export function badRequest(message: string, at: { param?: string; code?: string } = {}): ApiError {
  return new ApiError(400, { type: 'invalid_request_error', message, ...at });
}

/**
 * `resource_missing`. Stripe answers 404 when the id stands in the path and 400 when it is a
 * parameter, so the caller says which by passing the status.
 */
export function noSuch(kind: string, id: string, param: string, status: 400 | 404): ApiError {
  return new ApiError(status, {
    type: 'invalid_request_error',
    code: 'resource_missing',
    message: `No such ${kind}: '${id}'`,
    param,
  });
}

/** A parameter or value Stripe knows and this sandbox does not act on: better refused than ignored. */
export function notSimulated(param: string, hint?: string): ApiError {
  return badRequest(
    `The sandbox does not simulate \`${param}\`${hint ? `: ${hint}` : ''}. Leave it out, or use a Stripe test-mode key for this case.`,
    { param, code: 'sandbox_not_simulated' },
  );
}

export function unknownUrl(method: string, path: string): ApiError {
  return new ApiError(404, {
    type: 'invalid_request_error',
    message: `Unrecognized request URL (${method}: ${path}). The sandbox does not serve this call; its README lists the ones it does.`,
  });
}
