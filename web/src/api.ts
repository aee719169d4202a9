/**
 * The typed client of Purser's HTTP contract, as far as the pages use it. Credits are integers,
 * money is an integer in the currency's smallest unit, times are ISO 8601 UTC.
 */
import type { createCheckoutSession, getCheckoutSession } from '../../src/api/contract/checkout.ts';
import type { getCredits, listTransactions } from '../../src/api/contract/credits.ts';
import type { AnswerOf } from '../../src/api/contract/declareRoute.ts';
import type { getPricing } from '../../src/api/contract/pricing.ts';
import type { getSubscription } from '../../src/api/contract/subscriptions.ts';
import type { redeemClaim } from '../../src/api/contract/webhookReplay.ts';

export type Pricing = AnswerOf<typeof getPricing>;
export type Mode = Pricing['mode'];
export type Pack = Pricing['packs'][number];
export type Plan = Pricing['plans'][number];
export type CheckoutSession = AnswerOf<typeof createCheckoutSession>;
export type CheckoutStatus = AnswerOf<typeof getCheckoutSession>;
export type CheckoutState = CheckoutStatus['status'];
export type Credits = AnswerOf<typeof getCredits>;
export type Claim = AnswerOf<typeof redeemClaim>;
export type Subscription = AnswerOf<typeof getSubscription>;
export type TransactionPage = AnswerOf<typeof listTransactions>;
export type Transaction = TransactionPage['data'][number];

export interface TransactionFilter {
  type?: string | undefined;
  /** ISO 8601 instants. */
  from?: string | undefined;
  to?: string | undefined;
}

export const HISTORY_PAGE_SIZE = 25;

/** Longer than the server's own limit on Stripe, so that its answer arrives before we give up. */
const REQUEST_TIMEOUT_MS = 30_000;

/**
 * A problem document of the server, or what stands for one when no answer came: code `network`
 * (nothing arrived) or `bad_answer` (something that is not Purser answered). Status 0 = no answer.
 */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  readonly title: string;
  readonly requestId: string | null;
  readonly retryAfterSeconds: number | null;
  readonly fields: { path: string; message: string }[];

  constructor(problem: {
    code: string;
    status: number;
    title: string;
    detail: string;
    requestId?: string | null;
    retryAfterSeconds?: number | null;
    fields?: { path: string; message: string }[];
    cause?: unknown;
  }) {
    super(problem.detail, { cause: problem.cause });
    this.name = 'ApiError';
    this.code = problem.code;
    this.status = problem.status;
    this.title = problem.title;
    this.requestId = problem.requestId ?? null;
    this.retryAfterSeconds = problem.retryAfterSeconds ?? null;
    this.fields = problem.fields ?? [];
  }

  /** True when the same request may succeed later without the user changing anything. */
  get transient(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export interface ApiDeps {
  /** Headers that say who asks; read anew for each request. */
  identityHeaders(): Record<string, string>;
  /** Called with the headers that were refused, when the server answers 401. */
  onUnauthenticated(sent: Record<string, string>): void;
}

export interface Api {
  pricing(signal?: AbortSignal): Promise<Pricing>;
  /** The same `idempotencyKey` with the same body answers the same session. */
  createCheckoutSession(
    body: { plan: string; quantity: number },
    idempotencyKey: string,
  ): Promise<CheckoutSession>;
  /** Settles the session if it is paid; repeatable. */
  fulfillCheckout(sessionId: string, signal?: AbortSignal): Promise<CheckoutStatus>;
  checkoutStatus(sessionId: string, signal?: AbortSignal): Promise<CheckoutStatus>;
  createPortalSession(returnUrl: string): Promise<{ url: string }>;
  /** Takes over the purchase of a one-time link; the credits follow in seconds. Repeatable. */
  redeemClaim(token: string): Promise<Claim>;
  credits(signal?: AbortSignal): Promise<Credits>;
  subscription(signal?: AbortSignal): Promise<Subscription>;
  transactions(
    filter: TransactionFilter,
    cursor: string | null,
    signal?: AbortSignal,
  ): Promise<TransactionPage>;
  /** Everything that matches the filter, not only the rows on the page. */
  transactionsCsv(filter: TransactionFilter): Promise<Blob>;
}

interface Call {
  method?: 'GET' | 'POST';
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** Sent without identity: the answer is the same for all and may be cached. */
  anonymous?: boolean;
}

export function createApi(deps: ApiDeps): Api {
  async function send(path: string, call: Call = {}): Promise<Response> {
    const identity = call.anonymous ? {} : deps.identityHeaders();
    const headers: Record<string, string> = {
      Accept: 'application/json, application/problem+json',
      ...identity,
      ...call.headers,
    };
    const init: RequestInit = { method: call.method ?? 'GET', headers };
    if (call.body !== undefined) {
      headers['Content-Type'] = 'application/json';
      init.body = JSON.stringify(call.body);
    }
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    init.signal = call.signal ? AbortSignal.any([call.signal, timeout]) : timeout;

    let response: Response;
    try {
      response = await fetch(path, init);
    } catch (cause) {
      if (call.signal?.aborted) throw cause;
      throw new ApiError({
        code: 'network',
        status: 0,
        title: timeout.aborted ? 'The server took too long' : 'The server could not be reached',
        detail: 'Check your connection and try again. Nothing was lost.',
        cause,
      });
    }
    if (response.ok) return response;
    if (response.status === 401) deps.onUnauthenticated(identity);
    throw await readProblem(response);
  }

  async function json<T>(path: string, call?: Call): Promise<T> {
    const response = await send(path, call);
    try {
      return (await response.json()) as T;
    } catch (cause) {
      if (call?.signal?.aborted) throw cause;
      throw unexpectedAnswer(response, cause);
    }
  }

  const session = (id: string) => `/api/checkout-session/${encodeURIComponent(id)}`;

  return {
    pricing: (signal) => json('/api/pricing', { signal, anonymous: true }),
    createCheckoutSession: (body, idempotencyKey) =>
      json('/api/checkout-session', {
        method: 'POST',
        body,
        headers: { 'Idempotency-Key': idempotencyKey },
      }),
    fulfillCheckout: (id, signal) => json(`${session(id)}/fulfill`, { method: 'POST', signal }),
    checkoutStatus: (id, signal) => json(session(id), { signal }),
    createPortalSession: (returnUrl) =>
      json('/api/billing-portal-session', { method: 'POST', body: { return_url: returnUrl } }),
    redeemClaim: (token) => json(`/api/claims/${encodeURIComponent(token)}`, { method: 'POST' }),
    credits: (signal) => json('/api/credits', { signal }),
    subscription: (signal) => json('/api/subscription', { signal }),
    transactions: (filter, cursor, signal) => {
      const query = filterQuery(filter);
      query.set('limit', String(HISTORY_PAGE_SIZE));
      if (cursor !== null) query.set('cursor', cursor);
      return json(`/api/credits/transactions?${query}`, { signal });
    },
    transactionsCsv: async (filter) => {
      const query = filterQuery(filter).toString();
      const response = await send(`/api/credits/transactions.csv${query ? `?${query}` : ''}`, {
        headers: { Accept: 'text/csv, application/problem+json' },
      });
      return response.blob();
    },
  };
}

function filterQuery(filter: TransactionFilter): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filter)) {
    if (value) query.set(name, value);
  }
  return query;
}

async function readProblem(response: Response): Promise<ApiError> {
  if (!response.headers.get('content-type')?.includes('json')) return unexpectedAnswer(response);
  let body: Record<string, unknown>;
  try {
    body = (await response.json()) as Record<string, unknown>;
  } catch (cause) {
    return unexpectedAnswer(response, cause);
  }
  const text = (name: string) => (typeof body[name] === 'string' ? body[name] : null);
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new ApiError({
    code: text('code') ?? 'bad_answer',
    status: response.status,
    title: text('title') ?? 'Something went wrong',
    detail: text('detail') ?? '',
    requestId: text('request_id') ?? response.headers.get('x-request-id'),
    retryAfterSeconds: Number.isFinite(seconds) ? seconds : null,
    fields: Array.isArray(body.errors) ? body.errors.filter(isField) : [],
  });
}

function isField(value: unknown): value is { path: string; message: string } {
  const field = value as { path?: unknown; message?: unknown } | null;
  return typeof field?.path === 'string' && typeof field.message === 'string';
}

function unexpectedAnswer(response: Response, cause?: unknown): ApiError {
  return new ApiError({
    code: 'bad_answer',
    status: response.status,
    title: 'Unexpected answer from the server',
    detail: `Status ${response.status} came without a readable body. Try again in a moment.`,
    requestId: response.headers.get('x-request-id'),
    cause,
  });
}
