import type { Clock, Database, JsonObject, Logger } from '../core/ports.ts';
import type { Calendar, JobRun, Pace } from './jobs.types.ts';

/** One entry of the registry. */
export interface Job {
  name: string;
  /**
   * Pace in seconds (1 to 86400). A server looks at least each minute whether the job is due, since
   * one that failed or has work left over is due sooner. With a calendar: how often it looks.
   */
  everySeconds: number;
  calendar?: Calendar;
  /** Longer than `maxRunSeconds`, so that only a dead run loses its lease. */
  leaseSeconds: number;
  /** A run is asked to stop after this; what is left is the next run's, which is due at once. */
  maxRunSeconds: number;
  /** True for work on this process' own memory: it runs in each process, without a lease. */
  perProcess?: boolean;
  /** Answers what it has done, as counts by word. Asks `shouldStop` before each page of its work. */
  run(shouldStop: () => boolean, context: RunContext): Promise<Record<string, unknown>>;
}

/** What a run is given beside `shouldStop`; most jobs find their work by looking and need none. */
export interface RunContext {
  /** Where the run before stopped, as it was told to `report`; null = at the beginning. */
  readonly cursor: JsonObject | null;
  /**
   * How far this run has come: counts for people, and the place where the next one goes on. Both
   * are written with each heartbeat and at the end, so that a run that dies loses a few seconds.
   * The cursor is forgotten when a run ends by itself.
   */
  report(progress: JsonObject | null, cursor: JsonObject | null): void;
}

export interface JobsDeps {
  db: Database;
  clock: Clock;
  logger: Logger;
  /** Told of each run that was made here, with its length. */
  observe?: (run: JobRun & { outcome: 'done' | 'failed' }, seconds: number) => void;
}

/** The pace as the table keeps it. */
export const paceOf = ({ everySeconds, calendar }: Job): Pace => ({
  every_seconds: everySeconds,
  ...calendar,
});
