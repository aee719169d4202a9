import type { Database, Json } from '../core/ports.ts';
import type { Mirror } from './mirror.ts';

type Row = Record<string, Json>;

/** A row that would be changed; `before` is null for one that would be new. */
export interface RowChange {
  before: Row | null;
  after: Row;
}

/**
 * The rows a money function would write, as the tables hold them (`users`: the counters alone).
 * Ids of rows that will never exist are null.
 */
export interface WrittenRows {
  entries: Row[];
  lots: RowChange[];
  holds: RowChange[];
  payments: RowChange[];
  users: RowChange[];
  sources: Row[];
  audit: Row[];
  findings: RowChange[];
}

/** Runs `work` upon the money domains so that nothing is written. */
export type DryRun<Money> = <T>(
  work: (money: Money) => Promise<T>,
) => Promise<{ answer: T; rows: WrittenRows }>;

/** What would be told to Redis is of a state that never was. */
const NO_MIRROR: Mirror = {
  read: async () => null,
  update() {},
  updateAll: async () => {},
  idle: async () => {},
};

/**
 * Dry runs of whatever `over` makes of a database and a mirror: the very domains of the real
 * calls, upon a database that answers each call by its dry run (dry_run in
 * sql/credit_corrections_migration.sql). Outcomes and errors are those of the real call.
 */
export function createDryRun<Money>(
  db: Database,
  over: (db: Database, mirror: Mirror) => Money,
): DryRun<Money> {
  return async (work) => {
    const rows: WrittenRows = {
      entries: [],
      lots: [],
      holds: [],
      payments: [],
      users: [],
      sources: [],
      audit: [],
      findings: [],
    };
    const answer = await work(over(dryDatabase(db, rows), NO_MIRROR));
    return { answer, rows };
  };
}

/** Adds to `rows` what each call would have written. */
function dryDatabase(db: Database, rows: WrittenRows): Database {
  return {
    kind: db.kind,
    async rpc<T>(name: string, args = {}, options = {}) {
      const given = Object.entries(args).filter(
        (entry): entry is [string, Json] => entry[1] !== undefined,
      );
      const { answer, rows: written } = await db.rpc<{ answer: T; rows: WrittenRows }>(
        'dry_run',
        { p_function: name, p_args: Object.fromEntries(given) },
        // Nothing is written, so whatever the function is, its dry run may be repeated.
        { ...options, idempotent: true },
      );
      for (const [kind, list] of Object.entries(written) as [keyof WrittenRows, never[]][]) {
        rows[kind].push(...list);
      }
      return answer;
    },
    ping: db.ping,
    close: db.close,
  };
}
