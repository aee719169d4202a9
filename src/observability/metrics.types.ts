/** Answer of operations_metrics (sql/operations_migration.sql), with two of the health report's. */
export interface OperationsState {
  inbox: { status: string; events: number; oldest_seconds: number }[];
  due: { events: number; oldest_seconds: number };
  findings: { code: string; open: number }[];
  jobs: JobRow[];
  /** Absent where the tables are not there. */
  messages?: { kind: string; waiting: number; oldest_seconds: number }[];
  dunning?: { state: string; cases: number }[];
  tables: { name: string; bytes: number; rows: number }[];
  /** Null while Redis does not answer: nobody knows. */
  mirror_lag_seconds: number | null;
  health_score: number | null;
}

export interface JobRow {
  name: string;
  running: boolean;
  overdue: boolean;
  failures_in_row: number;
  /** Unix seconds. */
  last_success: number | null;
  next_run: number | null;
}
