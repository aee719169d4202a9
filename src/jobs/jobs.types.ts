/** The job registry as the API and the server see it. */

export interface JobRun {
  job: string;
  /** `busy`: another process holds the lease, nothing was done. */
  outcome: 'done' | 'busy' | 'failed';
  started_at: string;
  finished_at: string;
  /** What the job reports about its run: counts by word. */
  result: Record<string, unknown>;
}

/** Calls `work` at that pace, never before the call under way has ended. */
export type Every = (seconds: number, work: () => Promise<void>) => { stop(): void };

export interface Jobs {
  readonly names: readonly string[];
  /** Runs the job now, under its lease. Errors: `not_found` for an unknown name. */
  run(name: string, actor: string): Promise<JobRun>;
  /** Starts the schedule of a long-running server. */
  start(every: Every): void;
  /** Stops the schedule and waits for runs under way. */
  stop(): Promise<void>;
}
