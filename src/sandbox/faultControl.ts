import { z } from 'zod';
import {
  API_FAULT_RULES_MAX,
  API_FAULT_TIMES_MAX,
  type ApiFault,
  apiFaults,
  setApiFaults,
} from './apiFaults.ts';
import { createRestrictedKey, PERMISSIONS, RESTRICTED_KEYS_MAX } from './apiKeys.ts';
import type { Context } from './context.ts';
import { parseControl } from './controlBody.ts';
import type { ControlRoute } from './controlRoute.ts';
import { badRequest, noSuch } from './errors.ts';
import {
  currentFaults,
  DELAY_MAX_MS,
  DUPLICATES_MAX,
  FAULT_RULES_MAX,
  type Faults,
  isFault,
  LOST_ANSWERS_MAX,
  REORDER_MAX,
  setFaults,
} from './faults.ts';
import { isObject } from './json.ts';
import { isEventType, THIN_PREFIX } from './resources/webhookEndpoints.ts';
import { apiRoutes } from './routes.ts';
import { restrictedKeys, webhookEndpoints } from './tables.ts';

const faultSchema = z
  .strictObject({
    duplicate: z.int().min(0).max(DUPLICATES_MAX).optional(),
    delay_ms: z.int().min(0).max(DELAY_MAX_MS).optional(),
    drop: z.boolean().optional(),
    wrong_secret: z.boolean().optional(),
    reorder: z.int().min(2).max(REORDER_MAX).optional(),
    lose_answer: z.int().min(0).max(LOST_ANSWERS_MAX).optional(),
    down: z.boolean().optional(),
    down_until: z.int().min(0).optional(),
    types: z.array(z.string()).min(1).optional(),
    endpoints: z.array(z.string()).min(1).optional(),
    times: z.int().min(1).optional(),
    probability: z.number().min(0).max(1).optional(),
  })
  .refine(({ down, times, probability }) => !down || (times ?? probability) === undefined, {
    message: 'down lasts for a time, not for a number or share of deliveries: use down_until',
    path: ['down'],
  });
const faultsSchema = z.strictObject({ rules: z.array(faultSchema).max(FAULT_RULES_MAX) });

const apiFaultSchema = z
  .strictObject({
    status: z.union([z.literal(429), z.int().min(500).max(599)]).optional(),
    answer: z.literal('lost').optional(),
    method: z.enum(['GET', 'POST', 'DELETE']).optional(),
    path: z.string().startsWith('/').optional(),
    times: z.int().min(1).max(API_FAULT_TIMES_MAX).optional(),
    probability: z.number().min(0).max(1).optional(),
    carried_out: z.boolean().optional(),
  })
  .refine(({ status, answer }) => (status === undefined) !== (answer === undefined), {
    message: 'say either a status (429 or 5xx) or answer: lost',
    path: ['status'],
  })
  .refine(({ status, carried_out }) => !(status === 429 && carried_out), {
    message: 'a request refused for its rate is never carried out',
    path: ['carried_out'],
  });
const apiFaultsSchema = z.strictObject({
  rules: z.array(apiFaultSchema).max(API_FAULT_RULES_MAX),
});

const keySchema = z.strictObject({
  permissions: z
    .record(z.string(), z.enum(['read', 'write']))
    .refine((given) => Object.keys(given).every((name) => PERMISSIONS.has(name)), {
      message: `the names must be some of ${[...PERMISSIONS].sort().join(', ')}`,
    }),
});

/** Breaking things on purpose: deliveries, and the API itself. */
export const faultControl: readonly ControlRoute[] = [
  {
    method: 'GET',
    pattern: /^\/_sandbox\/faults$/,
    run: (ctx) => ({ rules: currentFaults(ctx) }),
  },
  {
    method: 'PUT',
    pattern: /^\/_sandbox\/faults$/,
    run: (ctx, { body }) => {
      // One rule may stand alone.
      const given = isObject(body) && 'rules' in body ? body : { rules: [body] };
      const { rules } = parseControl(faultsSchema, given);
      for (const [at, rule] of rules.entries()) checkFault(ctx, rule as Faults, at);
      return { rules: setFaults(ctx, rules as Faults[]) };
    },
  },
  {
    method: 'GET',
    pattern: /^\/_sandbox\/api_faults$/,
    run: (ctx) => ({ rules: apiFaults(ctx) }),
  },
  {
    method: 'PUT',
    pattern: /^\/_sandbox\/api_faults$/,
    run: (ctx, { body }) => {
      const { rules } = parseControl(apiFaultsSchema, body);
      for (const [at, { path }] of rules.entries()) checkPath(path, at);
      return { rules: setApiFaults(ctx, rules as ApiFault[]) };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/restricted_keys$/,
    run: (ctx, { body }) => {
      const { permissions } = parseControl(keySchema, body);
      if (ctx.store.size(restrictedKeys) >= RESTRICTED_KEYS_MAX) {
        throw badRequest(`There are ${RESTRICTED_KEYS_MAX} restricted keys already.`);
      }
      const { id } = createRestrictedKey(ctx, permissions);
      return { key: id, permissions };
    },
  },
];

/** A rule that can never hit would let a test pass for the wrong reason. @throws ApiError 400 */
function checkFault(ctx: Context, rule: Faults, at: number): void {
  const { types = [], endpoints = [] } = rule;
  const wrong = types.find((type) => !isEventType(type, 'snapshot'));
  if (wrong !== undefined) {
    const thin = isEventType(wrong, 'thin');
    throw badRequest(
      `rules.${at}.types: ${wrong} is not an event type.${thin ? ` Leave ${THIN_PREFIX} away: thin events are meant too.` : ''}`,
      { param: 'types' },
    );
  }
  for (const id of endpoints) {
    if (!ctx.store.get(webhookEndpoints, id))
      throw noSuch('webhook endpoint', id, 'endpoints', 400);
  }
  if (Object.keys(rule).length > 0 && !isFault(rule)) {
    throw badRequest(
      `rules.${at}: says what is hit, and not what goes wrong: duplicate, delay_ms, drop, wrong_secret, reorder, lose_answer or down.`,
    );
  }
}

/** @throws ApiError 400 for a path that begins no call's. */
function checkPath(path: string | undefined, at: number): void {
  if (path === undefined) return;
  const parts = path.replace(/\/$/, '').split('/');
  const begins = apiRoutes.some(({ pattern }) => {
    const segments = pattern.split('/');
    return parts.every((part, nth) => segments[nth] === part || segments[nth]?.startsWith(':'));
  });
  if (begins) return;
  throw badRequest(`rules.${at}.path: no call of the sandbox begins with ${path}.`, {
    param: 'path',
  });
}
