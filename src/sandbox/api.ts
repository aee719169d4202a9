import type { IncomingHttpHeaders } from 'node:http';
import { type ApiFault, faultError, takeApiFault } from './apiFaults.ts';
import { checkKey } from './apiKeys.ts';
import { API_VERSION, type Context } from './context.ts';
import { ApiError, badRequest, unknownUrl } from './errors.ts';
import { expandAll } from './expand.ts';
import { decodeForm, type FormObject } from './form.ts';
import { replay, saveAnswer } from './idempotency.ts';
import { parseShape } from './params.ts';
import { createMatcher } from './route.ts';
import { apiRoutes, expandable } from './routes.ts';

interface ApiRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

interface ApiAnswer {
  readonly status: number;
  /** The connection is cut instead of answering. */
  readonly lost?: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Answers `/v1/...` as Stripe does: who asks, what is asked, asked before?, then the work. */
export function createApi(deps: {
  ctx: Context;
  secretKey: string;
  onDefect: (error: unknown) => void;
}): (request: ApiRequest) => ApiAnswer {
  const match = createMatcher(apiRoutes);

  function answer(request: ApiRequest, requestId: string): ApiAnswer {
    checkVersion(request.headers['stripe-version']);
    const found = match(request.method, request.path);
    if (!found) throw unknownUrl(request.method, request.path);
    const form = formOf(request);
    const key = request.method === 'POST' ? header(request.headers['idempotency-key']) : null;
    const ctx: Context = { ...deps.ctx, request: { id: requestId, idempotency_key: key } };
    const attempt = key === null ? null : { key, method: request.method, path: request.path, form };
    const saved = attempt ? replay(ctx, attempt) : null;
    if (saved) {
      return {
        status: saved.status,
        body: saved.body,
        headers: { 'idempotent-replayed': 'true', 'original-request': saved.request_id },
      };
    }
    const params = parseShape(found.route.params, form);
    return ctx.store.transaction(() => {
      const result = runKeeping(() => found.route.run(ctx, params as never, found.ids));
      if (result instanceof ApiError) return refused(result);
      const paths = 'expand' in params ? ((params.expand as string[] | undefined) ?? []) : [];
      const body = JSON.stringify(expandAll(ctx, expandable, result, paths), null, 2);
      // Only what was carried out is saved: a refused request may be mended and sent again.
      if (attempt) saveAnswer(ctx, attempt, { request_id: requestId, status: 200, body });
      return { status: 200, body, headers: key === null ? {} : { 'idempotency-key': key } };
    });
  }

  return (request) => {
    const requestId = deps.ctx.newId('req_', 14);
    const common = { 'request-id': requestId, 'stripe-version': API_VERSION };
    try {
      const { method, path } = request;
      const { authorization } = request.headers;
      checkKey(deps.ctx, { authorization, method, path }, deps.secretKey);
      const fault = takeApiFault(deps.ctx, { id: requestId, method, path });
      if (fault) return brokenAnswer(fault, common, () => answer(request, requestId));
      const { headers, ...rest } = answer(request, requestId);
      return { ...rest, headers: { ...common, ...headers } };
    } catch (error) {
      if (!(error instanceof ApiError)) deps.onDefect(error);
      const { status, body } =
        error instanceof ApiError
          ? error
          : new ApiError(500, {
              type: 'api_error',
              message: `The sandbox has a defect; its log has the details of ${requestId}.`,
            });
      return { status, headers: common, body: JSON.stringify({ error: body }, null, 2) };
    }
  };
}

/** An error that keeps its changes is an answer of the transaction; any other undoes it. */
function runKeeping(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    if (error instanceof ApiError && error.keepsChanges) return error;
    throw error;
  }
}

function refused({ status, body }: ApiError): ApiAnswer {
  return { status, headers: {}, body: JSON.stringify({ error: body }, null, 2) };
}

/** What the caller gets of a request that meets a fault; it may have been carried out all the same. */
function brokenAnswer(
  { status, carried_out }: ApiFault,
  headers: Readonly<Record<string, string>>,
  carryOut: () => unknown,
): ApiAnswer {
  if (carried_out) {
    try {
      carryOut();
    } catch (error) {
      // Refused: then nothing was done, and the caller does not hear of that either.
      if (!(error instanceof ApiError)) throw error;
    }
  }
  if (status === undefined) return { status: 0, lost: true, headers, body: '' };
  return {
    status,
    headers: status === 429 ? { ...headers, 'stripe-rate-limited-reason': 'global-rate' } : headers,
    body: JSON.stringify({ error: faultError(status).body }, null, 2),
  };
}

function checkVersion(version: string | string[] | undefined): void {
  if (version === undefined || version === API_VERSION) return;
  throw badRequest(
    `The sandbox speaks API version ${API_VERSION} only, and was asked for ${String(version)}.`,
  );
}

function formOf(request: ApiRequest): FormObject {
  if (request.method === 'GET' || request.body === '') {
    // The second API repeats the name of a list instead of numbering it.
    const lists = request.path.startsWith('/v2/');
    return decodeForm(lists ? request.query.replace(/(^|&)types=/g, '$1types[]=') : request.query);
  }
  const type = request.headers['content-type'] ?? '';
  if (!type.startsWith('application/x-www-form-urlencoded')) {
    throw badRequest(
      `Invalid request: send parameters as application/x-www-form-urlencoded, not ${type || 'without a content type'}.`,
    );
  }
  return decodeForm(request.body);
}

function header(value: string | string[] | undefined): string | null {
  const text = Array.isArray(value) ? value[0] : value;
  return text === undefined || text === '' ? null : text;
}
