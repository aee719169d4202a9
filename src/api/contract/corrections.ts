import { z } from 'zod';
import { GRANT_TYPES, PRIORITY_MAX, PRIORITY_MIN } from '../../credits/corrections.types.ts';
import { declareRoute } from './declareRoute.ts';
import { dryRunAnswer, dryRunQuery, writtenIdSchema } from './dryRun.ts';
import {
  amountSchema,
  descriptionSchema,
  idempotencyHeaders,
  instantSchema,
  metadataSchema,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';

const reasonSchema = descriptionSchema
  .refine((reason) => reason.trim() !== '', 'must say why')
  .meta({ description: 'Why; shown in the history.' });

const writtenEntry = {
  outcome: z.enum(['applied']),
  transaction_id: writtenIdSchema,
  user_id: z.string(),
  amount: z.int(),
  balance: z.int(),
  held: z.int(),
  available: z.int(),
  version: z.int(),
  lots: z
    .array(z.object({ grant_id: writtenIdSchema, amount: z.int() }))
    .meta({ description: 'The lots that received, or gave; what repaid debt is in none.' }),
  created_at: timestampSchema,
  ...dryRunAnswer,
};
const replayHeaders = {
  'Idempotency-Replayed': '`true` when the key had been used for this before.',
};
const errors = [
  'idempotency_key_missing',
  'user_not_found',
  'idempotency_key_reused',
  'overloaded',
  'dependency_down',
] as const;

export const refundUsage = declareRoute({
  id: 'refundUsage',
  method: 'post',
  path: '/api/credits/refund-usage',
  tag: 'Credits',
  summary: 'Give spent credits back',
  description:
    'All that is left of one spend, or `amount` of it; several refunds until all of it is back. Debt is repaid first; the rest returns to the lots it was taken from, last taken first. A lot that has expired since comes back as a bonus lot of 7 days.',
  auth: 'service',
  headers: idempotencyHeaders,
  query: dryRunQuery,
  body: z
    .strictObject({
      user_id: userIdSchema,
      transaction_id: z
        .string()
        .min(1, 'must not be empty')
        .max(100, 'must not be longer than 100 characters')
        .refine((id) => /^[\x20-\x7e]*$/.test(id), 'must hold printable ASCII only')
        .meta({ description: '`transaction_id` of a consume or a capture.' }),
      amount: amountSchema
        .optional()
        .meta({ description: 'Credits; left out, all that is left of the spend.' }),
      description: descriptionSchema.optional(),
      metadata: metadataSchema.optional(),
    })
    .meta({ id: 'RefundUsageRequest' }),
  responses: {
    200: {
      description: 'Given back, or given back before under the same key.',
      headers: replayHeaders,
      body: z.object(writtenEntry).meta({ id: 'RefundUsageAnswer' }),
    },
  },
  errors: [...errors, 'not_found'],
});

export const grantCredits = declareRoute({
  id: 'grantCredits',
  method: 'post',
  path: '/api/credits/grants',
  tag: 'Credits',
  summary: 'Give credits nobody paid for',
  auth: 'service',
  headers: idempotencyHeaders,
  query: dryRunQuery,
  body: z
    .strictObject({
      user_id: userIdSchema,
      amount: amountSchema,
      type: z.enum(GRANT_TYPES, `must be one of ${GRANT_TYPES.join(', ')}`),
      reason: reasonSchema,
      expires_at: instantSchema
        .optional()
        .meta({ description: 'In the future; left out, they do not expire.' }),
      priority: z
        .int()
        .min(PRIORITY_MIN, `must be at least ${PRIORITY_MIN}`)
        .max(PRIORITY_MAX, `must be at most ${PRIORITY_MAX}`)
        .optional()
        .meta({ description: 'The lower is spent first; 100 when left out.' }),
    })
    .meta({ id: 'GrantRequest' }),
  responses: {
    200: {
      description: 'Granted, or granted before under the same key.',
      headers: replayHeaders,
      body: z.object({ ...writtenEntry, grant_id: writtenIdSchema }).meta({ id: 'GrantAnswer' }),
    },
  },
  errors,
});

export const adjustCredits = declareRoute({
  id: 'adjustCredits',
  method: 'post',
  path: '/api/admin/users/:userId/adjust',
  tag: 'Admin',
  summary: 'Correct a user’s balance',
  description:
    'Adds credits, or with a negative amount takes what no open hold reserves. Audited with who did it, why, and the counters before and after.',
  auth: 'admin',
  params: z.strictObject({ userId: userIdSchema }),
  headers: idempotencyHeaders,
  query: dryRunQuery,
  body: z
    .strictObject({
      amount: z
        .int()
        .refine((amount) => amount !== 0, 'must not be 0')
        .meta({ description: 'Credits, signed, within +-(2^53 - 1).' }),
      reason: reasonSchema,
    })
    .meta({ id: 'AdjustRequest' }),
  responses: {
    200: {
      description: 'Adjusted, or adjusted before under the same key.',
      headers: replayHeaders,
      body: z.object(writtenEntry).meta({ id: 'AdjustAnswer' }),
    },
  },
  errors: [...errors, 'insufficient_credits'],
});
