import type { Readable } from 'node:stream';
import type { CreditTransaction } from '../credits/credits.types.ts';
import type { Explain, StatementFilter } from '../credits/explain.types.ts';
import { STATEMENT_PAGE_MAX } from './contract/primitives.ts';
import { type CsvRow, toCsv } from './csv.ts';

const COLUMNS = [
  'created_at',
  'entry_number',
  'transaction_type',
  'amount',
  'balance_after',
  'description',
  'reverses',
  'idempotency_key',
  'stripe_session_id',
  'stripe_payment_intent_id',
  'stripe_invoice_id',
  'id',
] as const satisfies readonly (keyof CreditTransaction)[];

/**
 * A statement as CSV, oldest first, between a row `opening_balance` and a row `closing_balance`,
 * at most `limit` entries and one page in memory. A longer one ends with a row that says so in
 * place of the closing balance. The first page is read before the answer begins, so that its
 * errors still get their status. Errors: those of `Explain.statement`.
 */
export async function exportStatement(
  { statement }: Pick<Explain, 'statement'>,
  { limit, ...filter }: StatementFilter,
): Promise<Readable> {
  const pageAt = (
    span: { to?: string | undefined },
    cursor: string | undefined,
    rowsLeft: number,
  ) => statement({ ...filter, ...span, cursor, limit: Math.min(rowsLeft, STATEMENT_PAGE_MAX) });
  const first = await pageAt({}, filter.cursor, limit);

  async function* rows(): AsyncGenerator<CsvRow> {
    const { from, to, opening_balance, closing_balance } = first;
    yield {
      created_at: from,
      transaction_type: 'opening_balance',
      balance_after: opening_balance,
    };
    let page = first;
    for (let rowsLeft = limit; ; ) {
      yield* page.data.map((entry) => ({ ...entry }));
      rowsLeft -= page.data.length;
      if (!page.has_more || page.next_cursor === null) break;
      if (rowsLeft <= 0) {
        yield {
          description: `Stopped after ${limit} rows. Go on with to=${to}&cursor=${page.next_cursor}`,
        };
        return;
      }
      page = await pageAt({ to }, page.next_cursor, rowsLeft);
    }
    yield { created_at: to, transaction_type: 'closing_balance', balance_after: closing_balance };
  }

  return toCsv(COLUMNS, rows());
}
