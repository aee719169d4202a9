import { z } from 'zod';
import {
  HOLD_SECONDS_DEFAULT,
  HOLD_SECONDS_MAX,
  HOLD_SECONDS_MIN,
  HOLD_STATUSES,
} from '../../credits/holds.types.ts';
import { checkCost, cost, costChoice } from './credits.ts';
import { declareRoute } from './declareRoute.ts';
import { dryRunAnswer, dryRunQuery, writtenIdSchema } from './dryRun.ts';
import {
  amountSchema,
  descriptionSchema,
  idempotencyHeaders,
  integerParameter,
  metadataSchema,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';

const HOLDS_PAGE_MAX = 100;

const holdIdSchema = z.string().regex(/^h_[1-9]\d{0,15}$/, 'must be the id of a hold (h_...)');

const secondsSchema = z
  .int()
  .min(HOLD_SECONDS_MIN, `must be at least ${HOLD_SECONDS_MIN}`)
  .max(HOLD_SECONDS_MAX, `must be at most ${HOLD_SECONDS_MAX} (30 days)`)
  .meta({ description: 'Counted from now by the database clock; at most 30 days.' });

const holdState = {
  hold_id: z.string(),
  user_id: z.string(),
  status: z.enum(HOLD_STATUSES),
  amount: z.int(),
  captured: z.int(),
  released: z.int().meta({ description: 'Given back when the hold ended.' }),
  remaining: z.int().meta({ description: 'Reserved now.' }),
  expires_at: timestampSchema,
};

const holdSchema = z
  .object({
    ...holdState,
    hold_id: writtenIdSchema,
    transaction_id: z
      .string()
      .nullable()
      .meta({ description: 'The entry a capture wrote; null for everything else.' }),
    balance: z.int(),
    held: z.int(),
    available: z.int(),
    version: z.int(),
    ...dryRunAnswer,
  })
  .meta({ id: 'Hold' });

export const holdDetailsSchema = z
  .object({
    ...holdState,
    description: z.string().nullable(),
    metadata: z.record(z.string(), z.unknown()),
    created_at: timestampSchema,
  })
  .meta({ id: 'HoldDetails' });

const params = z.strictObject({ holdId: holdIdSchema });
const notes = {
  description: descriptionSchema.optional(),
  metadata: metadataSchema.optional(),
};
const replayHeaders = {
  'Idempotency-Replayed': '`true` when the key had been used for this before.',
};

export const createHold = declareRoute({
  id: 'createHold',
  method: 'post',
  path: '/api/credits/holds',
  tag: 'Holds',
  summary: 'Reserve credits',
  description:
    'For work whose price is known, or that may fail: reserve first, then capture what it took or release the rest. What is held is not available to anybody else; a hold that is forgotten gives its credits back when it expires. Its description and metadata go to the entries of its captures.',
  auth: 'service',
  headers: idempotencyHeaders,
  query: dryRunQuery,
  body: z
    .strictObject({
      user_id: userIdSchema,
      ...cost,
      expires_in_seconds: secondsSchema.default(HOLD_SECONDS_DEFAULT),
      ...notes,
    })
    .superRefine(checkCost)
    .meta({ id: 'HoldRequest', ...costChoice }),
  responses: {
    201: {
      description: 'Reserved, or reserved before under the same key: then the first answer again.',
      headers: replayHeaders,
      body: holdSchema,
    },
  },
  errors: [
    'idempotency_key_missing',
    'insufficient_credits',
    'suspended',
    'user_not_found',
    'idempotency_key_reused',
    'overloaded',
    'dependency_down',
  ],
});

export const captureHold = declareRoute({
  id: 'captureHold',
  method: 'post',
  path: '/api/credits/holds/:holdId/capture',
  tag: 'Holds',
  summary: 'Spend reserved credits',
  description:
    'All that is left of the hold, or `amount` of it; several captures until nothing is left. Captured once per Idempotency-Key. An open hold is captured whatever has become of the account since; one that has expired is judged again like a spend.',
  auth: 'service',
  params,
  headers: idempotencyHeaders,
  query: dryRunQuery,
  body: z
    .strictObject({ amount: amountSchema.optional(), ...notes })
    .meta({ id: 'CaptureRequest' }),
  bodyOptional: true,
  responses: {
    200: {
      description: 'Captured, or captured before under the same key: then the first answer again.',
      headers: replayHeaders,
      body: holdSchema,
    },
  },
  errors: [
    'idempotency_key_missing',
    'insufficient_credits',
    'suspended',
    'not_found',
    'user_not_found',
    'hold_ended',
    'idempotency_key_reused',
    'overloaded',
    'dependency_down',
  ],
});

export const releaseHold = declareRoute({
  id: 'releaseHold',
  method: 'post',
  path: '/api/credits/holds/:holdId/release',
  tag: 'Holds',
  summary: 'Give reserved credits back',
  description:
    'What was captured stays captured. Repeatable without a key: a hold that has ended, however, is answered as it is.',
  auth: 'service',
  params,
  query: dryRunQuery,
  body: z.strictObject({}),
  bodyOptional: true,
  responses: { 200: { description: 'The hold, ended.', body: holdSchema } },
  errors: ['not_found', 'user_not_found', 'overloaded', 'dependency_down'],
});

export const extendHold = declareRoute({
  id: 'extendHold',
  method: 'post',
  path: '/api/credits/holds/:holdId/extend',
  tag: 'Holds',
  summary: 'Let a hold last longer',
  description: 'Never shortens: a hold that lasts longer already is answered as it is.',
  auth: 'service',
  params,
  query: dryRunQuery,
  body: z.strictObject({ expires_in_seconds: secondsSchema }).meta({ id: 'ExtendRequest' }),
  responses: { 200: { description: 'The hold.', body: holdSchema } },
  errors: ['not_found', 'user_not_found', 'hold_ended', 'overloaded', 'dependency_down'],
});

export const getHold = declareRoute({
  id: 'getHold',
  method: 'get',
  path: '/api/credits/holds/:holdId',
  tag: 'Holds',
  summary: 'A hold as it stands',
  auth: 'service',
  params,
  query: z.strictObject({}),
  responses: { 200: { description: 'The hold, open or ended.', body: holdDetailsSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const listUserHolds = declareRoute({
  id: 'listUserHolds',
  method: 'get',
  path: '/api/users/:userId/holds',
  tag: 'Users',
  summary: 'A user’s open holds, oldest first',
  auth: 'service',
  params: z.strictObject({ userId: userIdSchema }),
  query: z.strictObject({
    limit: integerParameter(1, HOLDS_PAGE_MAX).default(50),
    cursor: holdIdSchema
      .optional()
      .meta({ description: '`next_cursor` of the page before: its last `hold_id`.' }),
  }),
  responses: {
    200: {
      description: 'One page.',
      body: z
        .object({
          data: z.array(holdDetailsSchema),
          has_more: z.boolean(),
          next_cursor: z.string().nullable(),
        })
        .meta({ id: 'HoldPage' }),
    },
  },
  errors: ['user_not_found', 'dependency_down'],
});
