import { randomUUID } from 'node:crypto';
import { PurserError } from '../core/errors.ts';
import type { Clock, Database, Logger } from '../core/ports.ts';
import type { JobRun, Jobs } from './jobs.types.ts';

/**
 * Bound of one tick: with the last page of the last job it stays below the 60 s that platforms
 * give a request.
 */
export const TICK_SECONDS_MAX = 40;

/** One entry of the registry. */
export interface Job {
  name: string;
  /** Pace in a long-running server, in seconds (1 to 86400). */
  everySeconds: number;
  /** Longer than `maxRunSeconds`, so that only a dead run loses its lease. */
  leaseSeconds: number;
  /** A run is asked to stop after this; what is left is the next run's. */
  maxRunSeconds: number;
  /** True for work on this process' own memory: it runs in each process, without a lease. */
  perProcess?: boolean;
  run(shouldStop: () => boolean): Promise<Record<string, unknown>>;
}

export interface JobsDeps {
  db: Database;
  clock: Clock;
  logger: Logger;
}

export type JobRegistry = Jobs & {
  /**
   * Runs each job that is due, once, one after the other: the tick of serverless set-ups. It ends
   * within TICK_SECONDS_MAX; each job may use its share of what is left, so that a long inbox
   * starves nobody. What is not done is the next tick's.
   */
  tick(): Promise<JobRun[]>;
};

/**
 * Runs jobs by name, each at most once at a time over all processes of a database: the lease and
 * the time of the next run are a row of scheduled_jobs.
 */
export function createJobs({ db, clock, logger }: JobsDeps, registry: Job[]): JobRegistry {
  const byName = new Map(registry.map((job) => [job.name, job]));
  const underWay = new Set<Promise<unknown>>();
  let schedule: { stop(): void }[] = [];
  let stopping = false;

  async function runUnderLease(
    job: Job,
    dueOnly: boolean,
    secondsMax = job.maxRunSeconds,
  ): Promise<JobRun> {
    const startedAt = clock.now();
    const ended = (outcome: JobRun['outcome'], result: JobRun['result']): JobRun => ({
      job: job.name,
      outcome,
      started_at: startedAt.toISOString(),
      finished_at: clock.now().toISOString(),
      result,
    });
    const claim = job.perProcess
      ? { outcome: 'claimed' as const, fence: 0 }
      : await db.rpc<{ outcome: 'claimed' | 'busy' | 'not_due'; fence?: number }>('claim_job', {
          p_name: job.name,
          p_lease_seconds: job.leaseSeconds,
          p_due_only: dueOnly,
          p_holder: randomUUID(),
        });
    if (claim.outcome !== 'claimed') return ended('busy', { reason: claim.outcome });

    const deadline = startedAt.getTime() + Math.min(job.maxRunSeconds, secondsMax) * 1000;
    let run: JobRun;
    try {
      run = ended('done', await job.run(() => stopping || clock.now().getTime() >= deadline));
    } catch (error) {
      logger.error(`Job ${job.name} failed`, { job: job.name, error });
      run = ended('failed', { error: error instanceof Error ? error.message : String(error) });
    }
    if (!job.perProcess) {
      await db.rpc('finish_job', {
        p_name: job.name,
        p_fence: claim.fence ?? 0,
        p_outcome: run.outcome,
        p_result: run.result as Record<string, string>,
        // A little less than the pace: the next tick of the clock must find it due.
        p_next_run_seconds: job.everySeconds * 0.8,
      });
    }
    return run;
  }

  function track<T>(work: Promise<T>): Promise<T> {
    underWay.add(work);
    const forget = () => underWay.delete(work);
    work.then(forget, forget);
    return work;
  }

  async function scheduled(job: Job): Promise<void> {
    try {
      await track(runUnderLease(job, true));
    } catch (error) {
      logger.warn(`Job ${job.name} could not be started`, { job: job.name, error });
    }
  }

  return {
    names: registry.map((job) => job.name),

    async run(name, actor) {
      const job = byName.get(name);
      if (job === undefined) {
        throw new PurserError('not_found', {
          detail: `There is no job "${name}". Jobs: ${[...byName.keys()].join(', ')}.`,
        });
      }
      logger.info(`Job ${name} is run by ${actor}`, { job: name, actor });
      return track(runUnderLease(job, false));
    },

    async tick() {
      const endsAt = clock.now().getTime() + TICK_SECONDS_MAX * 1000;
      const runs: JobRun[] = [];
      for (const [index, job] of registry.entries()) {
        const secondsLeft = (endsAt - clock.now().getTime()) / 1000;
        if (secondsLeft <= 0) break;
        const share = secondsLeft / (registry.length - index);
        runs.push(await track(runUnderLease(job, true, share)));
      }
      return runs;
    },

    start(every) {
      stopping = false;
      schedule = registry.map((job) => every(job.everySeconds, () => scheduled(job)));
    },

    async stop() {
      stopping = true;
      for (const timer of schedule) timer.stop();
      schedule = [];
      await Promise.allSettled(underWay);
    },
  };
}
