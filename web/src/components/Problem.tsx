import { ApiError } from '../api.ts';
import { AlertIcon } from './icons.tsx';

interface ProblemProps {
  error: unknown;
  /** What could not be done, as a short sentence: "Prices could not be loaded". */
  title: string;
  /** Offered where trying again can help, not where the request itself is wrong. */
  onRetry?: (() => void) | undefined;
  retrying?: boolean;
}

/** A failure as its reader needs it: what failed, why, what to do, and the id support asks for. */
export function Problem({ error, title, onRetry, retrying = false }: ProblemProps) {
  const api = error instanceof ApiError ? error : null;
  const detail = api ? api.message || api.title : 'The page met something it did not expect.';
  return (
    <div role="alert" className="card border-bad bg-bad-soft p-5 shadow-none">
      <p className="flex items-center gap-2 font-semibold text-bad">
        <AlertIcon className="size-5 shrink-0" />
        {title}
      </p>
      <p className="mt-2 break-words">{detail}</p>
      {api && api.fields.length > 0 && (
        <ul className="mt-2 list-disc pl-5 text-sm">
          {api.fields.map((field) => (
            <li key={`${field.path}: ${field.message}`}>
              <code>{field.path}</code>: {field.message}
            </li>
          ))}
        </ul>
      )}
      {api?.retryAfterSeconds ? (
        <p className="mt-2 text-sm">Worth another try in {api.retryAfterSeconds} s.</p>
      ) : null}
      <div className="mt-3 flex flex-wrap items-center justify-between gap-x-6 gap-y-2">
        {onRetry && (!api || api.transient) && (
          <button
            type="button"
            className="button button-quiet"
            onClick={onRetry}
            aria-disabled={retrying}
          >
            {retrying ? 'Trying…' : 'Try again'}
          </button>
        )}
        {api && (
          <p className="text-sm break-all">
            {api.requestId ? (
              <>
                Request id <code className="select-all">{api.requestId}</code>
              </>
            ) : (
              <>
                Code <code>{api.code}</code>
              </>
            )}
          </p>
        )}
      </div>
    </div>
  );
}
