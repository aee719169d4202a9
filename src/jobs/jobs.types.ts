/** The job registry as the API and the server see it. */
import type { Json } from '../core/ports.ts';

export interface JobRun {
  job: string;
  /** `busy`: another process holds the lease, nothing was done. */
  outcome: 'done' | 'busy' | 'failed';
  started_at: string;
  finished_at: string;
  /** What the job reports about its run: counts by word. */
  result: Record<string, unknown>;
}

/** Hour of the week (weekday 0 = Sunday) or of the month (day 1 to 28), in UTC. */
export type Calendar = { weekday: number; hour: number } | { day: number; hour: number };

/** When a job is run: each so many seconds, or once at an hour of the calendar. */
export type Pace = { every_seconds: number } & (Calendar | { hour?: never });

/** A job as people see it. Times are ISO 8601, null where it never came to that. */
export interface JobState {
  name: string;
  pace: Pace | null;
  /** True: it works on a process' own memory, runs in each, and what stands here is this process'. */
  per_process: boolean;
  running: boolean;
  /** Its time has come, and nobody runs it. */
  due: boolean;
  /** Due for twice its pace, at least 5 minutes (an hour with a calendar): nobody takes it up. */
  overdue: boolean;
  /** The process that ran it last has died in the middle; the next run goes on. */
  lost: boolean;
  /** What the run under way has done so far. */
  progress: Json;
  last_started_at: string | null;
  last_finished_at: string | null;
  last_outcome: 'done' | 'failed' | 'lost' | null;
  last_result: Record<string, unknown> | null;
  last_success_at: string | null;
  next_run_at: string | null;
  runs: number;
  failures: number;
  failures_in_row: number;
}

/** Calls `work` at that pace, never before the call under way has ended. */
export type Every = (seconds: number, work: () => Promise<void>) => { stop(): void };

export interface Jobs {
  readonly names: readonly string[];
  /** Runs the job now, under its lease. Errors: `not_found` for an unknown name. */
  run(name: string, actor: string): Promise<JobRun>;
  /** Every job with its pace, its last run and its next. */
  list(): Promise<{ as_of: string; jobs: JobState[] }>;
  /** Starts the schedule of a long-running server. */
  start(every: Every): void;
  /** Stops the schedule and waits for runs under way. */
  stop(): Promise<void>;
}
