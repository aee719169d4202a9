import type { Readable } from 'node:stream';
import type { Credits, CreditTransaction, TransactionFilter } from '../credits/credits.types.ts';
import { TRANSACTIONS_PAGE_MAX } from './contract/primitives.ts';
import { type CsvRow, toCsv } from './csv.ts';

const COLUMNS = [
  'id',
  'entry_number',
  'created_at',
  'event_at',
  'transaction_type',
  'amount',
  'balance_after',
  'description',
  'idempotency_key',
  'reverses',
  'reverses_transaction_id',
  'stripe_session_id',
  'stripe_payment_intent_id',
  'stripe_invoice_id',
  'metadata',
] as const satisfies readonly (keyof CreditTransaction)[];

const toRow = (transaction: CreditTransaction): CsvRow => ({
  ...transaction,
  // Written here, since the CSV writer would take null members of the object for empty cells.
  metadata: JSON.stringify(transaction.metadata),
});

/**
 * A user's entries as CSV, page after page, at most `limit` rows and one page in memory. A longer
 * history ends with a row that says so: a file that is silently short would be believed.
 * The first page is read before the answer begins, so that its errors still get their status.
 * Errors: those of `Credits.transactions`.
 */
export async function exportCsv(
  credits: Pick<Credits, 'transactions'>,
  { limit, ...filter }: TransactionFilter,
): Promise<Readable> {
  const pageAt = (cursor: string | undefined, rowsLeft: number) =>
    credits.transactions({ ...filter, cursor, limit: Math.min(rowsLeft, TRANSACTIONS_PAGE_MAX) });
  const first = await pageAt(filter.cursor, limit);

  async function* rows(): AsyncGenerator<CsvRow> {
    let page = first;
    for (let rowsLeft = limit; ; ) {
      for (const transaction of page.data) yield toRow(transaction);
      rowsLeft -= page.data.length;
      if (!page.has_more || page.next_cursor === null) return;
      if (rowsLeft <= 0) {
        yield {
          description: `Stopped after ${limit} rows. Go on with cursor=${page.next_cursor}`,
        };
        return;
      }
      page = await pageAt(page.next_cursor, rowsLeft);
    }
  }

  return toCsv(COLUMNS, rows());
}
