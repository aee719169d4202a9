import { useState } from 'react';
import { Link, useSearchParams } from 'wouter';
import type { TransactionFilter } from '../api.ts';
import { formatCredits } from '../money.ts';
import { api, useHistory } from '../queries.ts';
import { dayEdge } from '../time.ts';
import { HistoryFilters } from './HistoryFilters.tsx';
import { HistoryTable } from './HistoryTable.tsx';
import { EmptyDrawing, Spinner } from './icons.tsx';
import { Problem } from './Problem.tsx';

const SKELETON_ROWS = [1, 2, 3, 4, 5];

/** The ledger of one user, newest first. Filters live in the address, so that a view can be kept. */
export function History() {
  const [params, setParams] = useSearchParams();
  const choice = {
    type: params.get('type') ?? '',
    from: params.get('from') ?? '',
    to: params.get('to') ?? '',
  };
  const filter: TransactionFilter = {
    type: choice.type || undefined,
    from: choice.from ? dayEdge(choice.from, 'start') : undefined,
    to: choice.to ? dayEdge(choice.to, 'end') : undefined,
  };
  const filtered = Object.values(filter).some((value) => value !== undefined);
  const history = useHistory(filter);
  const rows = history.data?.pages.flatMap((page) => page.data) ?? [];
  const clear = () => setParams(new URLSearchParams(), { replace: true });

  return (
    <section aria-labelledby="history" className="mt-12">
      <div className="flex flex-wrap items-end justify-between gap-4">
        <h2 id="history" className="text-3xl">
          History
        </h2>
        <CsvButton filter={filter} disabled={rows.length === 0} />
      </div>
      <HistoryFilters
        choice={choice}
        filtered={filtered}
        onChange={(name, value) =>
          setParams(
            (previous) => {
              const next = new URLSearchParams(previous);
              if (value) next.set(name, value);
              else next.delete(name);
              return next;
            },
            { replace: true },
          )
        }
        onClear={clear}
      />
      <div className="mt-5">
        {history.isError && rows.length === 0 ? (
          <Problem
            error={history.error}
            title="The history could not be loaded"
            onRetry={() => void history.refetch()}
            retrying={history.isFetching}
          />
        ) : history.isPending ? (
          <HistorySkeleton />
        ) : rows.length === 0 ? (
          <NoHistory filtered={filtered} onClear={clear} />
        ) : (
          <>
            <HistoryTable rows={rows} faded={history.isPlaceholderData} />
            <div className="mt-4 flex flex-wrap items-center justify-between gap-4">
              <p role="status" className="text-sm text-muted">
                {history.hasNextPage
                  ? `The newest ${formatCredits(rows.length)} entries`
                  : `All ${formatCredits(rows.length)} ${rows.length === 1 ? 'entry' : 'entries'}${filtered ? ' that match' : ''}`}
              </p>
              {history.hasNextPage && (
                <button
                  type="button"
                  className="button button-quiet"
                  aria-disabled={history.isFetchingNextPage}
                  onClick={() => {
                    if (!history.isFetchingNextPage) void history.fetchNextPage();
                  }}
                >
                  {history.isFetchingNextPage && <Spinner />}
                  Load older entries
                </button>
              )}
            </div>
            {history.isError && (
              <div className="mt-4">
                <Problem error={history.error} title="Not everything could be loaded" />
              </div>
            )}
          </>
        )}
      </div>
    </section>
  );
}

function NoHistory({ filtered, onClear }: { filtered: boolean; onClear(): void }) {
  return (
    <div className="card grid justify-items-center gap-3 p-10 text-center text-muted">
      <EmptyDrawing />
      <p className="font-semibold text-ink">
        {filtered ? 'No entry matches these filters' : 'No entries yet'}
      </p>
      <p>
        {filtered
          ? 'Other dates or another type may show more.'
          : 'Each purchase and each use of credits will be listed here.'}
      </p>
      {filtered ? (
        <button type="button" className="button button-quiet" onClick={onClear}>
          Clear the filters
        </button>
      ) : (
        <Link href="/pricing" className="button button-primary">
          Buy credits
        </Link>
      )}
    </div>
  );
}

function HistorySkeleton() {
  return (
    <div className="card p-5">
      <p role="status" className="sr-only">
        Loading the history
      </p>
      <div aria-hidden="true" className="grid gap-4">
        {SKELETON_ROWS.map((row) => (
          <div key={row} className="skeleton h-10" />
        ))}
      </div>
    </div>
  );
}

function CsvButton({ filter, disabled }: { filter: TransactionFilter; disabled: boolean }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);

  async function download() {
    if (busy || disabled) return;
    setBusy(true);
    setError(null);
    try {
      // A plain link could not carry the token, so the file is fetched and handed over.
      const address = URL.createObjectURL(await api.transactionsCsv(filter));
      const anchor = document.createElement('a');
      anchor.href = address;
      anchor.download = `credits-${new Date().toISOString().slice(0, 10)}.csv`;
      anchor.click();
      URL.revokeObjectURL(address);
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  }

  return (
    <div className="grid gap-3">
      <button
        type="button"
        className="button button-quiet justify-self-end aria-disabled:text-muted"
        aria-disabled={busy || disabled}
        onClick={() => void download()}
      >
        {busy && <Spinner />}
        Download CSV
      </button>
      {error !== null && <Problem error={error} title="The file could not be made" />}
    </div>
  );
}
