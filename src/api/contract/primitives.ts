import { z } from 'zod';

/** Building blocks of the contract: the forms and bounds of ids, amounts, texts and filters. */

const USER_ID_BYTES_MAX = 255;
export const IDEMPOTENCY_KEY_LENGTH_MAX = 255;
const DESCRIPTION_LENGTH_MAX = 500;
const METADATA_BYTES_MAX = 8_192;
export const TRANSACTIONS_PAGE_MAX = 100;
export const STATEMENT_PAGE_MAX = 1_000;
export const EXPLAINED_ENTRIES_MAX = 500;
/** Rows of one CSV file; more are fetched with the cursor its last line names. */
export const CSV_ROWS_MAX = 100_000;

/**
 * Control characters, line separators and lone surrogates: none is printable, the database can
 * not hold some of them, and ids with them could forge log lines.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u;
/** In free text line breaks and tabs are fine; what Postgres cannot store is not. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: NUL is what is looked for
const UNSTORABLE = /[\u0000\p{Cs}]/u;

export const userIdSchema = z
  .string()
  .min(1, 'must not be empty')
  .refine((id) => !UNPRINTABLE.test(id), 'must not hold control characters or line breaks')
  .refine(
    (id) => Buffer.byteLength(id) <= USER_ID_BYTES_MAX,
    `must not be longer than ${USER_ID_BYTES_MAX} bytes`,
  )
  .meta({ description: `Your app's id of the user: any printable text, 1 to 255 bytes.` });

export function text(lengthMax: number) {
  return z
    .string()
    .max(lengthMax, `must not be longer than ${lengthMax} characters`)
    .refine((value) => !UNSTORABLE.test(value), 'must not hold NUL or broken characters');
}

export const amountSchema = z
  .int()
  .min(1, 'must be at least 1')
  .meta({ description: 'Credits, a whole number from 1 to 2^53 - 1.' });

export const descriptionSchema = text(DESCRIPTION_LENGTH_MAX);

function findMetadataProblem(value: unknown): string | null {
  // Bounded: bodies deeper than JSON_DEPTH_MAX were refused before any schema saw them.
  if (typeof value === 'string') {
    return UNSTORABLE.test(value) ? 'must not hold NUL or broken characters' : null;
  }
  if (value === null || typeof value !== 'object') return null;
  for (const [name, member] of Object.entries(value)) {
    if (name === '__proto__') return 'must not have a member named __proto__';
    const problem = findMetadataProblem(name) ?? findMetadataProblem(member);
    if (problem !== null) return problem;
  }
  return null;
}

export const metadataSchema = z
  .record(z.string(), z.unknown())
  .superRefine((value, context) => {
    const problem =
      Buffer.byteLength(JSON.stringify(value)) > METADATA_BYTES_MAX
        ? `must not be larger than ${METADATA_BYTES_MAX} bytes`
        : findMetadataProblem(value);
    if (problem !== null) context.addIssue({ code: 'custom', message: problem });
  })
  .meta({
    description: `Your own data, kept with the entry; up to ${METADATA_BYTES_MAX} bytes.`,
  });

/** A whole number written in a query string; "1e3", "+5" and "5.0" are not. */
export function integerParameter(min: number, max: number) {
  return z
    .string('must be given once')
    .regex(/^-?\d{1,15}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .pipe(z.int().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`))
    .meta({ type: 'integer', minimum: min, maximum: max, pattern: undefined });
}

/** An instant or a day (its first instant in UTC), as ISO 8601. */
export const instantSchema = z
  .union(
    [z.iso.datetime({ offset: true }), z.iso.date()],
    'must be ISO 8601, such as 2026-11-21 or 2026-11-21T10:00:00Z (a + in a query is written %2B)',
  )
  .transform((value) => new Date(value).toISOString())
  .meta({ type: 'string', format: 'date-time', anyOf: undefined });

export const timestampSchema = z.string().meta({ format: 'date-time' });

export const cursorSchema = z
  .string('must be given once')
  .regex(/^[\w.=-]{1,512}$/, 'must be the next_cursor of the page before')
  .meta({ description: '`next_cursor` of the page before.' });

export const returnUrlSchema = z
  .string()
  .min(1, 'must not be empty')
  .max(2_000, 'must not be longer than 2000 characters')
  .meta({ description: 'An address under PUBLIC_URL or one of PURSER_RETURN_ORIGINS.' });

export const checkoutSessionIdSchema = z
  .string()
  .regex(/^cs_[A-Za-z0-9_]{1,200}$/, 'must be the id of a Checkout session (cs_...)');

export const catalogueIdSchema = z
  .string()
  .regex(/^[\w.-]{1,100}$/, 'must be an id of the catalogue');

export const jobNameSchema = z.string().regex(/^[A-Za-z][\w-]{0,63}$/, 'must be the name of a job');

export const idempotencyKeySchema = z
  .string()
  .min(1, 'must not be empty')
  .max(
    IDEMPOTENCY_KEY_LENGTH_MAX,
    `must not be longer than ${IDEMPOTENCY_KEY_LENGTH_MAX} characters`,
  )
  .regex(/^[\x20-\x7e]*$/, 'must hold printable ASCII only');

export const idempotencyHeaders = z.object({
  'idempotency-key': idempotencyKeySchema.meta({
    description:
      'Names the intent, unique per user and permanent: the same key with the same request is a replay, with another amount an error.',
  }),
});

export const optionalIdempotencyHeaders = z.object({
  'idempotency-key': idempotencyKeySchema.optional().meta({
    description: 'The same key gives the same session, so that a double click buys once.',
  }),
});
