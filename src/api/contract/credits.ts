import { z } from 'zod';
import { TRANSACTION_TYPES } from '../../credits/credits.types.ts';
import { declareRoute } from './declareRoute.ts';
import { dryRunAnswer, dryRunQuery, writtenIdSchema } from './dryRun.ts';
import {
  amountSchema,
  CSV_ROWS_MAX,
  catalogueIdSchema,
  cursorSchema,
  descriptionSchema,
  idempotencyHeaders,
  instantSchema,
  integerParameter,
  metadataSchema,
  TRANSACTIONS_PAGE_MAX,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';

export const balanceSchema = z
  .object({
    user_id: z.string(),
    balance: z.int(),
    held: z.int(),
    available: z.int().meta({ description: 'What can be spent now.' }),
    debt: z.int(),
    version: z.int().meta({ description: 'Grows by one with every change.' }),
    source: z.enum(['redis', 'ledger']),
    plan: z.string(),
    expiring: z.array(
      z.object({ grant_id: z.string(), credits: z.int(), expires_at: timestampSchema }),
    ),
    next_grant: z.object({ credits: z.int(), at: timestampSchema }).nullable(),
    as_of: timestampSchema,
  })
  .meta({ id: 'Balance' });

export const transactionSchema = z
  .object({
    id: z.string(),
    entry_number: z.int(),
    transaction_type: z.enum(TRANSACTION_TYPES),
    amount: z.int().meta({ description: 'Positive for credits added, negative for spent.' }),
    balance_after: z.int(),
    description: z.string().nullable(),
    idempotency_key: z.string().nullable(),
    reverses: z
      .int()
      .nullable()
      .meta({ description: 'entry_number of the entry that this one takes back.' }),
    reverses_transaction_id: z.string().nullable().meta({ description: 'Its id.' }),
    stripe_session_id: z.string().nullable(),
    stripe_payment_intent_id: z.string().nullable(),
    stripe_invoice_id: z.string().nullable(),
    metadata: z.record(z.string(), z.unknown()),
    event_at: timestampSchema,
    created_at: timestampSchema,
  })
  .meta({ id: 'CreditTransaction' });

export const transactionPageSchema = z
  .object({
    data: z.array(transactionSchema),
    has_more: z.boolean(),
    next_cursor: z.string().nullable(),
  })
  .meta({ id: 'CreditTransactionPage' });

const filters = {
  cursor: cursorSchema.optional(),
  type: z
    .enum(TRANSACTION_TYPES, `must be one of ${TRANSACTION_TYPES.join(', ')}`)
    .optional()
    .meta({ description: 'Only entries of this type.' }),
  from: instantSchema.optional().meta({ description: 'Written at or after.' }),
  to: instantSchema.optional().meta({ description: 'Written before.' }),
};

export function checkRange(
  query: { from?: string | undefined; to?: string | undefined },
  context: z.RefinementCtx,
): void {
  if (query.from !== undefined && query.to !== undefined && query.from > query.to) {
    context.addIssue({ code: 'custom', path: ['from'], message: 'must not be after to' });
  }
}

export const transactionsQuery = z
  .strictObject({ limit: integerParameter(1, TRANSACTIONS_PAGE_MAX).default(50), ...filters })
  .superRefine(checkRange);

const exportQuery = z
  .strictObject({ limit: integerParameter(1, CSV_ROWS_MAX).default(CSV_ROWS_MAX), ...filters })
  .superRefine(checkRange);

export const getCredits = declareRoute({
  id: 'getCredits',
  method: 'get',
  path: '/api/credits',
  tag: 'Credits',
  summary: 'My balance',
  auth: 'user',
  query: z.strictObject({}),
  responses: { 200: { description: 'The balance.', body: balanceSchema } },
  errors: ['user_not_found', 'dependency_down'],
});

export const listTransactions = declareRoute({
  id: 'listTransactions',
  method: 'get',
  path: '/api/credits/transactions',
  tag: 'Credits',
  summary: 'My history, newest first',
  auth: 'user',
  query: transactionsQuery,
  responses: { 200: { description: 'One page.', body: transactionPageSchema } },
  errors: ['user_not_found', 'dependency_down'],
});

export const exportTransactions = declareRoute({
  id: 'exportTransactions',
  method: 'get',
  path: '/api/credits/transactions.csv',
  tag: 'Credits',
  summary: 'My history as CSV',
  description: `All pages in one file, up to ${CSV_ROWS_MAX} rows; a longer history ends with a line that names the cursor to go on from. Cells that a spreadsheet would run as formulas are escaped.`,
  auth: 'user',
  query: exportQuery,
  responses: { 200: { description: 'The file.', contentType: 'text/csv' } },
  errors: ['user_not_found', 'dependency_down'],
});

export const exportUserTransactions = declareRoute({
  id: 'exportUserTransactions',
  method: 'get',
  path: '/api/users/:userId/transactions.csv',
  tag: 'Users',
  summary: 'A user’s history as CSV',
  description: 'As the user’s own, with the same filters.',
  auth: 'service',
  params: z.strictObject({ userId: userIdSchema }),
  query: exportQuery,
  responses: { 200: { description: 'The file.', contentType: 'text/csv' } },
  errors: ['user_not_found', 'dependency_down'],
});

export const getUserCredits = declareRoute({
  id: 'getUserCredits',
  method: 'get',
  path: '/api/users/:userId/credits',
  tag: 'Users',
  summary: 'A user’s balance',
  auth: 'service',
  params: z.strictObject({ userId: userIdSchema }),
  query: z.strictObject({}),
  responses: { 200: { description: 'The balance.', body: balanceSchema } },
  errors: ['user_not_found', 'dependency_down'],
});

export const listUserTransactions = declareRoute({
  id: 'listUserTransactions',
  method: 'get',
  path: '/api/users/:userId/transactions',
  tag: 'Users',
  summary: 'A user’s history, newest first',
  auth: 'service',
  params: z.strictObject({ userId: userIdSchema }),
  query: transactionsQuery,
  responses: { 200: { description: 'One page.', body: transactionPageSchema } },
  errors: ['user_not_found', 'dependency_down'],
});

/** What an operation costs: credits, or units of a feature priced in the catalogue. */
export const cost = {
  amount: amountSchema.optional(),
  feature: catalogueIdSchema.optional().meta({ description: 'A feature of the catalogue.' }),
  units: amountSchema
    .optional()
    .meta({ description: 'How many uses of the feature; 1 when left out.' }),
};

export function checkCost(
  body: { amount?: unknown; feature?: unknown; units?: unknown },
  context: z.RefinementCtx,
): void {
  if ((body.amount === undefined) === (body.feature === undefined)) {
    context.addIssue({
      code: 'custom',
      path: ['amount'],
      message: 'give exactly one of amount and feature',
    });
  } else if (body.units !== undefined && body.feature === undefined) {
    context.addIssue({ code: 'custom', path: ['units'], message: 'goes with feature only' });
  }
}

export const costChoice = { oneOf: [{ required: ['amount'] }, { required: ['feature'] }] };

export const checkCredits = declareRoute({
  id: 'checkCredits',
  method: 'post',
  path: '/api/credits/check',
  tag: 'Credits',
  summary: 'May this user spend n?',
  description:
    'Answered from the mirror in one round trip; refused is also 200. A hint, not a reservation: spending decides again.',
  auth: 'service',
  query: z.strictObject({}),
  body: z
    .strictObject({ user_id: userIdSchema, ...cost })
    .superRefine(checkCost)
    .meta({ id: 'CheckRequest', ...costChoice }),
  responses: {
    200: {
      description: 'Whether the user may spend that much.',
      body: z
        .object({
          user_id: z.string(),
          allowed: z.boolean(),
          amount: z.int(),
          balance: z.int(),
          held: z.int(),
          available: z.int(),
          version: z.int(),
          source: z.enum(['redis', 'ledger']),
          reason: z.enum(['insufficient_credits', 'suspended']).nullable(),
          buy_url: z.string().nullable(),
        })
        .meta({ id: 'CheckAnswer' }),
    },
  },
  errors: ['user_not_found', 'dependency_down'],
});

export const consumeCredits = declareRoute({
  id: 'consumeCredits',
  method: 'post',
  path: '/api/credits/consume',
  tag: 'Credits',
  summary: 'Spend credits',
  description: 'Durable and exact: spent once per Idempotency-Key, however often it is sent.',
  auth: 'service',
  headers: idempotencyHeaders,
  query: dryRunQuery,
  body: z
    .strictObject({
      user_id: userIdSchema,
      ...cost,
      description: descriptionSchema.optional(),
      metadata: metadataSchema.optional(),
    })
    .superRefine(checkCost)
    .meta({ id: 'ConsumeRequest', ...costChoice }),
  responses: {
    200: {
      description: 'Spent, or spent before under the same key.',
      headers: { 'Idempotency-Replayed': '`true` when the key had been used for this before.' },
      body: z
        .object({
          outcome: z.enum(['applied']),
          transaction_id: writtenIdSchema,
          user_id: z.string(),
          amount: z.int(),
          balance: z.int(),
          held: z.int(),
          available: z.int(),
          version: z.int(),
          lots: z.array(z.object({ grant_id: z.string(), amount: z.int() })),
          created_at: timestampSchema,
          ...dryRunAnswer,
        })
        .meta({ id: 'ConsumeAnswer' }),
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
