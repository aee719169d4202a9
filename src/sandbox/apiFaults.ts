import { add, type Context } from './context.ts';
import { ApiError } from './errors.ts';
import { chance } from './ids.ts';
import { apiFaultRules } from './tables.ts';

/** How calls of Stripe's API go wrong: never the control API's own. */
export interface ApiFault {
  /** 429 is answered instead of carrying the request out; a 5xx too, unless `carried_out`. */
  readonly status?: number;
  /** The connection is cut without an answer. */
  readonly answer?: 'lost';
  /** The request is carried out first: the caller cannot know, and must ask again with its key. */
  readonly carried_out?: boolean;
  /** Only such requests; every one when absent. */
  readonly method?: 'GET' | 'POST' | 'DELETE';
  /** The path or its beginning, e.g. `/v1/refunds`. */
  readonly path?: string;
  /** How many requests are hit; no end when absent. */
  readonly times?: number;
  /** From 0 to 1, decided by the request's id: with a seed the same ones are hit. Default 1. */
  readonly probability?: number;
}

export type ApiFaultsRow = {
  id: 'api_faults';
  object: 'sandbox.api_faults';
  rules: readonly ApiFault[];
};

export const API_FAULT_RULES_MAX = 20;
export const API_FAULT_TIMES_MAX = 1_000_000;

/** Replaces the rules; none ends all faults. The first that fits and wins its chance counts. */
export function setApiFaults(ctx: Context, rules: readonly ApiFault[]): readonly ApiFault[] {
  add(ctx, apiFaultRules, { id: 'api_faults', object: 'sandbox.api_faults', rules }, {});
  return rules;
}

export function apiFaults(ctx: Context): readonly ApiFault[] {
  return ctx.store.get(apiFaultRules, 'api_faults')?.view.rules ?? [];
}

/** The fault this request meets, counted against `times`; null when all is well. */
export function takeApiFault(
  ctx: Context,
  request: { id: string; method: string; path: string },
): ApiFault | null {
  const rules = apiFaults(ctx);
  const at = rules.findIndex(
    ({ method, path, probability }, nth) =>
      (method === undefined || method === request.method) &&
      (path === undefined || request.path === path || request.path.startsWith(`${path}/`)) &&
      chance(`${request.id}:${nth}`, probability ?? 1),
  );
  const rule = rules[at];
  if (!rule) return null;
  if (rule.times !== undefined) {
    const left = rule.times > 1 ? [{ ...rule, times: rule.times - 1 }] : [];
    ctx.store.transaction(() => setApiFaults(ctx, rules.toSpliced(at, 1, ...left)));
  }
  return rule;
}

/** What Stripe answers in such an hour. */
export function faultError(status: number): ApiError {
  if (status === 429) {
    return new ApiError(429, {
      type: 'invalid_request_error',
      code: 'rate_limit',
      message:
        'Request rate limit exceeded. Learn more about rate limits at https://stripe.com/docs/rate-limits.',
    });
  }
  return new ApiError(status, {
    type: 'api_error',
    message:
      'An unknown error occurred (a fault of the sandbox). Ask again with the same idempotency key.',
  });
}
