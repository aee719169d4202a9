/** Errors as PostgREST answers them: `{code, message, details, hint}` and an HTTP status. */

export interface ErrorBody {
  code: string;
  message: string;
  details: string | null;
  hint: string | null;
}

export interface HttpAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** Ends a request with an answer of PostgREST's own. */
export class ApiError extends Error {
  readonly status: number;
  readonly body: ErrorBody;
  readonly headers: Record<string, string>;

  constructor(
    status: number,
    body: Partial<ErrorBody> & { code: string; message: string },
    headers: Record<string, string> = {},
  ) {
    super(body.message);
    this.status = status;
    this.body = { details: null, hint: null, ...body };
    this.headers = headers;
  }
}

export function errorAnswer({ status, body, headers }: ApiError): HttpAnswer {
  return {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'proxy-status': `PostgREST; error=${body.code}`,
      ...headers,
    },
    body: JSON.stringify(body),
  };
}

export interface PgFailureFields {
  code: string;
  message: string;
  detail?: string | undefined;
  hint?: string | undefined;
}

/** From the documented table of SQLSTATEs; whole codes before classes. */
const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  '23503': 409,
  '23505': 409,
  '25006': 405,
  '42883': 404,
  '42P01': 404,
  '42P17': 500,
  '53400': 500,
  '57P01': 503,
  P0001: 400,
};
const STATUS_OF_CLASS: Readonly<Record<string, number>> = {
  '08': 503,
  '09': 500,
  '0L': 403,
  '0P': 403,
  '25': 500,
  '28': 403,
  '2D': 500,
  '38': 500,
  '39': 500,
  '3B': 500,
  '40': 500,
  '53': 503,
  '54': 500,
  '55': 500,
  '57': 500,
  '58': 500,
  F0: 500,
  HV: 500,
  P0: 500,
  XX: 500,
};

/** `authenticated`: the request carried a token with a role of its own. */
export function statusOf({ code, message }: PgFailureFields, authenticated: boolean): number {
  if (/^PT\d{3}$/.test(code)) return Number(code.slice(2));
  if (code.startsWith('PT')) return 500;
  if (code === '42501') return authenticated ? 403 : 401;
  if (code === '21000') return message.endsWith('requires a WHERE clause') ? 400 : 500;
  if (code === '22023') return /^role .* does not exist$/.test(message) ? 401 : 400;
  return STATUS_OF_CODE[code] ?? STATUS_OF_CLASS[code.slice(0, 2)] ?? 400;
}

/** What Postgres raised, as an answer. */
export function fromPostgres(failure: PgFailureFields, authenticated: boolean): ApiError {
  if (failure.code === 'PGRST') return raisedByHand(failure);
  const status = statusOf(failure, authenticated);
  return new ApiError(
    status,
    {
      code: failure.code,
      message: failure.message,
      details: failure.detail ?? null,
      hint: failure.hint ?? null,
    },
    status === 401 ? { 'www-authenticate': 'Bearer' } : {},
  );
}

/** `raise sqlstate 'PGRST'` chooses body, status and headers by JSON in message and detail. */
function raisedByHand(failure: PgFailureFields): ApiError {
  const unreadable = new ApiError(500, {
    code: 'PGRST121',
    message: 'Could not parse JSON in the "RAISE SQLSTATE \'PGRST\'" error',
  });
  try {
    const body = JSON.parse(failure.message);
    const { status, headers } = JSON.parse(failure.detail ?? '');
    if (!body.code || !body.message || !status || !headers) return unreadable;
    const { code, message, details = null, hint = null } = body;
    return new ApiError(status, { code, message, details, hint }, headers);
  } catch {
    return unreadable;
  }
}
