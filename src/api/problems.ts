import type { ErrorRequestHandler, Request, Response } from 'express';
import { ERRORS, type ErrorCode, isRetryable, PurserError } from '../core/errors.ts';
import type { AppDeps } from './deps.ts';

/** The default `Retry-After` of answers that may be repeated, in seconds. */
const RETRY_AFTER_SECONDS = 2;

/** One member of `errors` in an `invalid_request` problem. */
export interface FieldError {
  path: string;
  message: string;
}

const FIELD_ERRORS_MAX = 20;
const FIELDS_IN_DETAIL_MAX = 3;

/** An `invalid_request` out of what is wrong with each field. */
export function invalidRequest(errors: readonly FieldError[]): PurserError {
  const listed = errors
    .slice(0, FIELDS_IN_DETAIL_MAX)
    .map(({ path, message }) => (path === '' ? message : `${path} ${message}`));
  const more = errors.length - listed.length;
  return new PurserError('invalid_request', {
    detail: `${listed.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    extensions: { errors: errors.slice(0, FIELD_ERRORS_MAX) },
  });
}

/** What body-parser and Express throw, by the name they give it. */
const PARSER_ERRORS: Record<string, { code: ErrorCode; detail: string }> = {
  'entity.parse.failed': { code: 'invalid_request', detail: 'The body is not valid JSON.' },
  'entity.too.large': {
    code: 'payload_too_large',
    detail: 'The body is larger than allowed here.',
  },
  'encoding.unsupported': {
    code: 'unsupported_media_type',
    detail: 'The Content-Encoding is not supported here. Send the body as it is.',
  },
  'charset.unsupported': {
    code: 'unsupported_media_type',
    detail: 'The charset is not supported. Send UTF-8.',
  },
  'request.aborted': {
    code: 'invalid_request',
    detail: 'The request ended before its body did.',
  },
  'request.size.invalid': {
    code: 'invalid_request',
    detail: 'The body does not have the length Content-Length says.',
  },
};

/** Foreign errors of the HTTP layer as ours; anything unknown is a defect and stays what it is. */
function toPurserError(error: unknown): PurserError | null {
  if (error instanceof PurserError) return error;
  if (error instanceof URIError) {
    return new PurserError('invalid_request', {
      detail: 'The address holds a broken percent-encoding.',
      cause: error,
    });
  }
  if (error === null || typeof error !== 'object') return null;
  const { type, status } = error as { type?: unknown; status?: unknown };
  const known = typeof type === 'string' ? PARSER_ERRORS[type] : undefined;
  if (known !== undefined)
    return new PurserError(known.code, { detail: known.detail, cause: error });
  if (typeof type === 'string' && typeof status === 'number' && status >= 400 && status < 500) {
    return new PurserError('invalid_request', {
      detail: 'The body could not be read.',
      cause: error,
    });
  }
  return null;
}

/**
 * The path alone: a query may hold what must not be repeated. Null bytes and the like cannot be
 * in it, Node refuses them.
 */
function instanceOf(request: Request): string {
  const [path = '/'] = request.originalUrl.split('?', 1);
  return path;
}

function sendProblem(
  request: Request,
  response: Response,
  publicUrl: string,
  code: ErrorCode,
  error: PurserError | null,
): void {
  const { status, title } = ERRORS[code];
  const problem = {
    // Extensions first: none of them may stand in for a member of the standard.
    ...error?.extensions,
    type: `${publicUrl}/problems/${code}`,
    title,
    status,
    code,
    // A defect says nothing about itself: its message may hold anything.
    ...(error === null ? {} : { detail: error.message }),
    instance: instanceOf(request),
    request_id: response.locals.requestId as string,
  };
  if (code === 'unauthenticated') {
    const presented = request.headers.authorization !== undefined;
    response.setHeader(
      'WWW-Authenticate',
      presented ? 'Bearer realm="purser", error="invalid_token"' : 'Bearer realm="purser"',
    );
  }
  if (error !== null && (status === 503 || status === 429)) {
    const seconds = Math.max(1, Math.ceil(error.retryAfterSeconds ?? RETRY_AFTER_SECONDS));
    if (!response.hasHeader('Retry-After')) response.setHeader('Retry-After', String(seconds));
  }
  response.removeHeader('ETag');
  response.setHeader('Cache-Control', 'no-store');
  response.status(status).type('application/problem+json').send(JSON.stringify(problem));
}

/** Turns every error into the problem document of the contract, and logs it once. */
export function problemHandler(deps: Pick<AppDeps, 'logger' | 'publicUrl'>): ErrorRequestHandler {
  const { logger } = deps;
  return (thrown: unknown, request, response, _next) => {
    const error = toPurserError(thrown);
    const code = error?.code ?? 'internal';
    const fields = {
      method: request.method,
      path: instanceOf(request),
      code,
      error: thrown,
    };
    if (response.headersSent) {
      // The answer is half sent: cutting the connection is the only way left to say so.
      logger.error('Answer broken off', fields);
      response.destroy();
      return;
    }
    if (error === null || code === 'internal') logger.error('Request failed', fields);
    else if (isRetryable(error)) logger.warn('Request could not be served', fields);
    else logger.info('Request refused', { ...fields, error: undefined, detail: error.message });
    sendProblem(request, response, deps.publicUrl(), code, code === 'internal' ? null : error);
  };
}
