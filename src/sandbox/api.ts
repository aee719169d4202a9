import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
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
    checkKey(request.headers.authorization, deps.secretKey);
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

function checkKey(authorization: string | undefined, secretKey: string): void {
  const key = keyOf(authorization);
  if (key === null) {
    throw unauthorized(
      'You did not provide an API key. Send the sandbox key with Bearer auth: `Authorization: Bearer sk_test_...`.',
    );
  }
  if (/^(sk|rk)_live_/.test(key)) {
    throw unauthorized(
      'This is a local sandbox and you sent a LIVE Stripe key. It is refused and was not stored. Use the sandbox key; consider the live key exposed if this was not your own machine.',
    );
  }
  const given = Buffer.from(key);
  const expected = Buffer.from(secretKey);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw unauthorized(
      `Invalid API Key provided: ${key.slice(0, 8)}${'*'.repeat(8)}${key.slice(-4)}. The sandbox prints its key when it starts.`,
    );
  }
}

/** Bearer, or the user name of basic auth as curl -u sends it. */
function keyOf(authorization: string | undefined): string | null {
  const [scheme = '', credentials = ''] = (authorization ?? '').split(' ');
  if (credentials === '') return null;
  if (/^bearer$/i.test(scheme)) return credentials;
  if (!/^basic$/i.test(scheme)) return null;
  return Buffer.from(credentials, 'base64').toString('utf8').split(':')[0] || null;
}

function unauthorized(message: string): ApiError {
  return new ApiError(401, { type: 'invalid_request_error', message });
}

function checkVersion(version: string | string[] | undefined): void {
  if (version === undefined || version === API_VERSION) return;
  throw badRequest(
    `The sandbox speaks API version ${API_VERSION} only, and was asked for ${String(version)}.`,
  );
}

function formOf(request: ApiRequest): FormObject {
  if (request.method === 'GET' || request.body === '') return decodeForm(request.query);
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
