import { Readable } from 'node:stream';
import { stringify } from 'csv-stringify';

export type CsvRow = Record<string, unknown>;

/** Rows as a CSV file with a header line, made while it is read; a reader who leaves ends them. */
export function toCsv(columns: readonly string[], rows: AsyncIterable<CsvRow>): Readable {
  const csv = stringify({
    header: true,
    columns: [...columns],
    // Descriptions are written by an app's users; a spreadsheet must not run them.
    escape_formulas: true,
    record_delimiter: '\r\n',
    // The writer quotes for its own record delimiter only; a lone line feed splits a row as well.
    quoted_match: /[\r\n]/,
  });
  const source = Readable.from(rows);
  source.once('error', (error) => csv.destroy(error));
  csv.once('close', () => source.destroy());
  return source.pipe(csv);
}
