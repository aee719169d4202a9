import { z } from 'zod';
import { checkCost, cost, costChoice } from './credits.ts';
import { declareRoute } from './declareRoute.ts';
import { dryRunAnswer, dryRunQuery } from './dryRun.ts';
import {
  descriptionSchema,
  idempotencyKeySchema,
  metadataSchema,
  userIdSchema,
} from './primitives.ts';

const OPERATIONS_MAX = 500;

const operationSchema = z
  .strictObject({
    user_id: userIdSchema,
    ...cost,
    idempotency_key: idempotencyKeySchema.meta({
      description:
        'Names this one spend, as the Idempotency-Key of consume does, and is of the same book: a key spent there is a replay here.',
    }),
    description: descriptionSchema.optional(),
    metadata: metadataSchema.optional(),
  })
  .superRefine(checkCost)
  .meta({ id: 'BatchOperation', ...costChoice });

const resultSchema = z
  .object({
    index: z.int().meta({ description: 'Place of the operation in the request, from 0.' }),
    idempotency_key: z.string(),
    outcome: z
      .enum([
        'applied',
        'replayed',
        'insufficient_credits',
        'suspended',
        'conflict',
        'not_found',
        'busy',
      ])
      .meta({
        description:
          '`conflict`: the key was used for another amount. `busy`: other work holds the user, nothing was spent; send the operation again with the same key.',
      }),
    transaction_id: z
      .string()
      .nullable()
      .meta({ description: 'With `applied` and `replayed`; of the former null in a dry run.' }),
    balance: z.int().nullable().meta({
      description:
        'After the spend, on a replay as first answered; of a refusal, as it stands; else null.',
    }),
    available: z.int().nullable(),
  })
  .meta({ id: 'BatchResult' });

export const consumeCreditsBatch = declareRoute({
  id: 'consumeCreditsBatch',
  method: 'post',
  path: '/api/credits/consume-batch',
  tag: 'Credits',
  summary: 'Spend credits of many users at once',
  description: `Up to ${OPERATIONS_MAX} spends in one durable transaction, in a body of at most 256 KB. Each is judged by itself, those of one user in the order given, and each has its own outcome: the answer is 200 also when all are refused. After a 503 send the same body again; what was spent is answered as \`replayed\`.`,
  auth: 'service',
  query: dryRunQuery,
  body: z
    .strictObject({
      operations: z
        .array(operationSchema)
        .min(1, 'must hold at least one operation')
        .max(OPERATIONS_MAX, `must not hold more than ${OPERATIONS_MAX} operations`),
    })
    .meta({ id: 'ConsumeBatchRequest' }),
  responses: {
    200: {
      description: 'What became of each, in the order of the request.',
      body: z
        .object({ results: z.array(resultSchema), ...dryRunAnswer })
        .meta({ id: 'ConsumeBatchAnswer' }),
    },
  },
  errors: ['overloaded', 'dependency_down'],
});
