import { z } from 'zod';

/** What every money mutation of the API takes and answers for a dry run. */

const dryRunParameter = z
  .enum(['true', 'false'], 'must be true or false')
  .transform((value) => value === 'true')
  .optional()
  .meta({
    description:
      'With `true` nothing is written, not even the Idempotency-Key: the answer, or the error, is that of the real call, with the rows it would write.',
  });

export const dryRunQuery = z.strictObject({ dry_run: dryRunParameter });

const rowSchema = z.record(z.string(), z.unknown());
const rowsSchema = z.array(rowSchema);
const changesSchema = z.array(z.object({ before: rowSchema.nullable(), after: rowSchema }));

const writtenRowsSchema = z
  .object({
    entries: rowsSchema.meta({ description: 'New entries of the ledger.' }),
    lots: changesSchema,
    holds: changesSchema,
    payments: changesSchema,
    users: changesSchema.meta({ description: 'The counters of each user concerned.' }),
    sources: rowsSchema.meta({ description: 'Stripe objects newly tied to an entry.' }),
    audit: rowsSchema,
    findings: changesSchema,
  })
  .meta({
    id: 'WrittenRows',
    description:
      'The rows a call would write, as the database keeps them; `before` is null for a new one. Ids of rows that will never exist are null.',
  });

/** Members of an answer that only a dry run has. */
export const dryRunAnswer = {
  dry_run: z.literal(true).optional().meta({ description: 'Only in a dry run.' }),
  rows: writtenRowsSchema.optional().meta({ description: 'Only in a dry run.' }),
};

/** The id of a row that was written; null in a dry run, where it never will be. */
export const writtenIdSchema = z
  .string()
  .nullable()
  .meta({ description: 'Null in a dry run: it will never exist.' });
