import type { Database, JsonObject } from '../core/ports.ts';
import type { JobState, Pace } from './jobs.types.ts';

/** The rows of scheduled_jobs; see sql/operations_migration.sql. */

export type Claim =
  | { outcome: 'claimed'; fence: number; cursor: JsonObject | null }
  | { outcome: 'busy' | 'not_due' };

/**
 * What this process asked about leases and was never told, by the job's name: an outage lasted longer
 * than the adapter's own repeats. It is asked again before anything else of that job, for a lease that
 * nobody knows of would keep everybody from the job until it runs out.
 */
export interface Unanswered {
  /** Token of the call for a lease, which may have been given: under its token it is given again. */
  claims: Map<string, string>;
  /** Sends the end of a run once more; it is written once. */
  ends: Map<string, () => Promise<unknown>>;
}

export type JobRow = Omit<JobState, 'per_process'>;

/** Of a job that nobody has looked at yet. */
export const NEVER_RUN: Omit<JobRow, 'name' | 'pace'> = {
  running: false,
  due: true,
  overdue: false,
  lost: false,
  progress: null,
  last_started_at: null,
  last_finished_at: null,
  last_outcome: null,
  last_result: null,
  last_success_at: null,
  next_run_at: null,
  runs: 0,
  failures: 0,
  failures_in_row: 0,
};

export function claimJob(
  db: Database,
  job: { name: string; leaseSeconds: number; pace: Pace },
  { dueOnly, holder }: { dueOnly: boolean; holder: string },
): Promise<Claim> {
  return db.rpc('claim_job', {
    p_name: job.name,
    p_lease_seconds: job.leaseSeconds,
    p_due_only: dueOnly,
    p_holder: holder,
    p_pace: job.pace as Record<string, number>,
  });
}

/** What a run has to say about itself while it lasts. */
export interface Kept {
  progress: JsonObject | null;
  cursor: JsonObject | null;
}

export function keepJob(
  db: Database,
  job: { name: string; leaseSeconds: number },
  fence: number,
  kept: Kept,
): Promise<{ outcome: 'kept' | 'stale' }> {
  return db.rpc('keep_job', {
    p_name: job.name,
    p_fence: fence,
    p_lease_seconds: job.leaseSeconds,
    p_progress: kept.progress,
    p_cursor: kept.cursor,
  });
}

export function finishJob(
  db: Database,
  name: string,
  fence: number,
  end: {
    outcome: 'done' | 'failed';
    result: Record<string, unknown>;
    more: boolean;
    cursor: JsonObject | null;
  },
): Promise<{ outcome: 'done' | 'stale' }> {
  return db.rpc('finish_job', {
    p_name: name,
    p_fence: fence,
    p_outcome: end.outcome,
    p_result: end.result as JsonObject,
    p_more: end.more,
    p_cursor: end.cursor,
  });
}

export function listJobs(db: Database): Promise<{ as_of: string; jobs: JobRow[] }> {
  return db.rpc('list_jobs');
}
