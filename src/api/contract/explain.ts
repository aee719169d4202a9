import { z } from 'zod';
import { TRANSACTION_TYPES } from '../../credits/credits.types.ts';
import { checkRange, transactionSchema } from './credits.ts';
import { declareRoute } from './declareRoute.ts';
import {
  CSV_ROWS_MAX,
  cursorSchema,
  EXPLAINED_ENTRIES_MAX,
  instantSchema,
  integerParameter,
  STATEMENT_PAGE_MAX,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';

const typeSchema = z.enum(TRANSACTION_TYPES);

export const explanationSchema = z
  .object({
    user_id: z.string(),
    closed: z.boolean().meta({ description: 'The account was deleted; its book is kept.' }),
    at: timestampSchema,
    balance: z.int(),
    held: z.int(),
    available: z.int(),
    debt: z.int(),
    expired_unwritten: z.int().meta({
      description: 'Credits due by then whose expiry the book did not say yet; not in the balance.',
    }),
    entries: z.int().meta({ description: 'How many entries there are up to then.' }),
    truncated: z.boolean().meta({ description: 'Only the newest entries are shown.' }),
    lots: z.array(
      z.object({
        grant_id: z.string(),
        entry_number: z.int(),
        type: typeSchema,
        amount: z.int(),
        remaining: z.int(),
        expired_unwritten: z.int(),
        paid: z.boolean(),
        from_plan: z.boolean(),
        priority: z.int(),
        expires_at: timestampSchema.nullable(),
        created_at: timestampSchema,
        cost_amount: z.int().nullable(),
        cost_currency: z.string().nullable(),
        catalogue_id: z.string().nullable(),
        price_id: z.string().nullable(),
        sources: z.array(z.string()),
        story: z.array(
          z.object({
            entry_number: z.int(),
            type: typeSchema,
            amount: z.int(),
            at: timestampSchema,
          }),
        ),
      }),
    ),
    debts: z.array(
      z.object({
        entry_number: z.int(),
        type: typeSchema,
        before: z.int(),
        after: z.int(),
        at: timestampSchema,
      }),
    ),
    holds: z.array(
      z.object({
        hold_id: z.string(),
        amount: z.int(),
        captured: z.int(),
        remaining: z.int(),
        expires_at: timestampSchema,
        created_at: timestampSchema,
        description: z.string().nullable(),
      }),
    ),
    expiring: z.array(
      z.object({ grant_id: z.string(), credits: z.int(), expires_at: timestampSchema }),
    ),
    stripe: z.array(z.object({ source: z.string(), entry_number: z.int(), at: timestampSchema })),
    sentences: z.array(z.string()).meta({ description: 'The same in plain English.' }),
  })
  .meta({ id: 'Explanation' });

const statementSchema = z
  .object({
    user_id: z.string(),
    from: timestampSchema.nullable(),
    to: timestampSchema,
    opening_balance: z.int(),
    closing_balance: z.int().meta({ description: 'opening_balance + the amounts of all entries.' }),
    totals: z
      .array(z.object({ transaction_type: typeSchema, entries: z.int(), amount: z.int() }))
      .meta({ description: 'Of the whole span, on every page.' }),
    data: z.array(transactionSchema),
    has_more: z.boolean(),
    next_cursor: z.string().nullable(),
  })
  .meta({ id: 'Statement' });

export const explainQuery = z.strictObject({
  at: instantSchema.optional().meta({ description: 'An instant, past or future; default now.' }),
  limit: integerParameter(1, EXPLAINED_ENTRIES_MAX)
    .default(100)
    .meta({ description: 'Entries back from then.' }),
});

const span = {
  from: instantSchema.optional().meta({ description: 'Written at or after.' }),
  to: instantSchema.optional().meta({ description: 'Written before; default now.' }),
  cursor: cursorSchema.optional(),
};
const statementQuery = z
  .strictObject({ limit: integerParameter(1, STATEMENT_PAGE_MAX).default(100), ...span })
  .superRefine(checkRange);
const statementExportQuery = z
  .strictObject({ limit: integerParameter(1, CSV_ROWS_MAX).default(CSV_ROWS_MAX), ...span })
  .superRefine(checkRange);

const ofUser = z.strictObject({ userId: userIdSchema });
const errors = ['user_not_found', 'dependency_down'] as const;

const explain = {
  method: 'get',
  query: explainQuery,
  responses: { 200: { description: 'The explanation.', body: explanationSchema } },
  errors,
} as const;
const explainText =
  'Lots, debts, holds, Stripe objects and sentences; of any instant, as the book stood then.';

export const explainCredits = declareRoute({
  ...explain,
  id: 'explainCredits',
  path: '/api/credits/explain',
  tag: 'Credits',
  summary: 'How my balance came about',
  description: explainText,
  auth: 'user',
});

export const explainUserCredits = declareRoute({
  ...explain,
  id: 'explainUserCredits',
  path: '/api/users/:userId/credits/explain',
  tag: 'Users',
  summary: 'How a user’s balance came about',
  description: `${explainText} Closed accounts are explained as well.`,
  auth: 'service',
  params: ofUser,
});

const statement = {
  method: 'get',
  query: statementQuery,
  responses: { 200: { description: 'One page.', body: statementSchema } },
  errors,
} as const;
const statementCsv = {
  method: 'get',
  query: statementExportQuery,
  responses: { 200: { description: 'The file.', contentType: 'text/csv' } },
  errors,
} as const;
const csvText = `All pages in one file between a row opening_balance and a row closing_balance, up to ${CSV_ROWS_MAX} entries. Cells that a spreadsheet would run as formulas are escaped.`;

export const getStatement = declareRoute({
  ...statement,
  id: 'getStatement',
  path: '/api/credits/statement',
  tag: 'Credits',
  summary: 'My statement, oldest first',
  auth: 'user',
});

export const exportStatementCsv = declareRoute({
  ...statementCsv,
  id: 'exportStatement',
  path: '/api/credits/statement.csv',
  tag: 'Credits',
  summary: 'My statement as CSV',
  description: csvText,
  auth: 'user',
});

export const getUserStatement = declareRoute({
  ...statement,
  id: 'getUserStatement',
  path: '/api/users/:userId/statement',
  tag: 'Users',
  summary: 'A user’s statement, oldest first',
  auth: 'service',
  params: ofUser,
});

export const exportUserStatement = declareRoute({
  ...statementCsv,
  id: 'exportUserStatement',
  path: '/api/users/:userId/statement.csv',
  tag: 'Users',
  summary: 'A user’s statement as CSV',
  description: csvText,
  auth: 'service',
  params: ofUser,
});
