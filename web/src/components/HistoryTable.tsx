import type { Transaction } from '../api.ts';
import { formatCredits, formatSigned } from '../money.ts';
import { formatDate, formatTime } from '../time.ts';
import { transactionTypeName } from './transactionTypes.ts';

interface HistoryTableProps {
  rows: Transaction[];
  /** The rows still belong to the filter before. */
  faded: boolean;
}

export function HistoryTable({ rows, faded }: HistoryTableProps) {
  return (
    <div className="card overflow-hidden" aria-busy={faded}>
      <table className="w-full text-left">
        <caption className="sr-only">
          Entries of your account, newest first, each with the balance after it
        </caption>
        <thead className="border-b border-line text-sm text-muted">
          <tr>
            <th scope="col" className="hidden py-3 pr-2 pl-6 font-semibold sm:table-cell">
              When
            </th>
            <th scope="col" className="w-full py-3 pr-2 pl-4 font-semibold sm:w-auto sm:pl-2">
              What
            </th>
            <th scope="col" className="px-2 py-3 text-right font-semibold">
              Credits
            </th>
            <th scope="col" className="py-3 pr-4 pl-2 text-right font-semibold sm:pr-6">
              Balance
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.id} className="border-b border-line last:border-0">
              <td className="hidden py-3 pr-2 pl-6 align-top sm:table-cell">
                <time dateTime={row.created_at}>
                  <span className="block whitespace-nowrap">{formatDate(row.created_at)}</span>
                  <span className="block text-sm text-muted">{formatTime(row.created_at)}</span>
                </time>
              </td>
              <td className="py-3 pr-2 pl-4 align-top sm:pl-2">
                <span className="block font-semibold">
                  {transactionTypeName(row.transaction_type)}
                </span>
                {row.description && (
                  <span className="block text-sm break-words text-muted">{row.description}</span>
                )}
                {/* A phone has no room for a column of dates: they stand here instead. */}
                <time dateTime={row.created_at} className="block text-sm text-muted sm:hidden">
                  <span className="whitespace-nowrap">{formatDate(row.created_at)},</span>{' '}
                  <span className="whitespace-nowrap">{formatTime(row.created_at)}</span>
                </time>
              </td>
              <td
                className={`px-2 py-3 text-right align-top font-semibold whitespace-nowrap tabular-nums ${
                  row.amount > 0 ? 'text-good' : ''
                }`}
              >
                {formatSigned(row.amount)}
              </td>
              <td className="py-3 pr-4 pl-2 text-right align-top tabular-nums sm:pr-6">
                {formatCredits(row.balance_after)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
