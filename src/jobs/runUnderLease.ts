import { randomUUID } from 'node:crypto';
import { isRetryable } from '../core/errors.ts';
import type { JsonObject } from '../core/ports.ts';
import { type Job, type JobsDeps, paceOf, type RunContext } from './job.ts';
import type { JobRun } from './jobs.types.ts';
import {
  claimJob,
  finishJob,
  type JobRow,
  type Kept,
  keepJob,
  NEVER_RUN,
  type Unanswered,
} from './leases.ts';

/** How often a run says that it lives: far more often than any lease runs out. */
const HEARTBEAT_MS = 5_000;

export interface RunDeps extends JobsDeps {
  /** Of jobs without a lease: their state, in this process. */
  ownRows: Map<string, JobRow>;
  unanswered: Unanswered;
  /** True when this process ends. */
  isStopping(): boolean;
}

export interface RunOptions {
  dueOnly: boolean;
  secondsMax: number;
}

/**
 * One run of a job, at most one at a time over all processes: under its lease, or for work on this
 * process' memory under a lease in this process. Null when it is not due. A failure of the job is
 * an outcome; errors are those of taking or ending the lease.
 */
export async function runUnderLease(
  deps: RunDeps,
  job: Job,
  options: RunOptions,
): Promise<JobRun | null> {
  const lease = await takeLease(deps, job, options.dueOnly);
  const startedAt = deps.clock.now();
  const ended = (outcome: JobRun['outcome'], result: JobRun['result']): JobRun => ({
    job: job.name,
    outcome,
    started_at: startedAt.toISOString(),
    finished_at: deps.clock.now().toISOString(),
    result,
  });
  if (lease === 'not_due') return null;
  if (lease === 'busy') return ended('busy', { reason: 'busy' });

  const deadline = startedAt.getTime() + options.secondsMax * 1000;
  const kept: Kept = { progress: null, cursor: lease.cursor };
  let toldToStop = false;
  const shouldStop = () => {
    const stop = deps.isStopping() || lease.isLost() || deps.clock.now().getTime() >= deadline;
    toldToStop ||= stop;
    return stop;
  };
  const context: RunContext = {
    cursor: lease.cursor,
    report: (progress, cursor) => Object.assign(kept, { progress, cursor }),
  };
  const stopHeartbeat = lease.beat(kept);
  let run: JobRun & { outcome: 'done' | 'failed' };
  const begun = performance.now();
  try {
    const result = await job.run(shouldStop, context);
    run = { ...ended('done', result), outcome: 'done' };
  } catch (error) {
    deps.logger.error(`Job ${job.name} failed`, { job: job.name, error });
    const message = error instanceof Error ? error.message : String(error);
    run = { ...ended('failed', { error: message }), outcome: 'failed' };
  } finally {
    stopHeartbeat();
  }
  // Whoever was told to stop has left work behind, which is due at once.
  const cursor = toldToStop || run.outcome === 'failed' ? kept.cursor : null;
  await lease.end({ ...run, more: toldToStop, cursor });
  deps.observe?.(run, (performance.now() - begun) / 1000);
  return run;
}

interface Lease {
  cursor: JsonObject | null;
  isLost(): boolean;
  /** Keeps the lease, and what `kept` says then, until the function it answers is called. */
  beat(kept: Kept): () => void;
  end(
    run: JobRun & { outcome: 'done' | 'failed'; more: boolean; cursor: JsonObject | null },
  ): Promise<unknown>;
}

async function takeLease(
  deps: RunDeps,
  job: Job,
  dueOnly: boolean,
): Promise<Lease | 'busy' | 'not_due'> {
  if (job.perProcess) return takeOwnLease(deps, job);
  const { db, logger } = deps;
  const { claims, ends } = deps.unanswered;
  const { name, leaseSeconds } = job;
  const pace = paceOf(job);
  const endBefore = ends.get(name);
  ends.delete(name);
  await endBefore?.();
  const holder = claims.get(name) ?? randomUUID();
  // While it is on its way it is this run's alone: two under one token would both have the lease.
  claims.delete(name);
  const claim = await claimJob(db, { name, leaseSeconds, pace }, { dueOnly, holder }).catch(
    (error: unknown) => {
      claims.set(name, holder);
      throw error;
    },
  );
  if (claim.outcome !== 'claimed') return claim.outcome;
  const { fence, cursor } = claim;
  let lost = false;
  const end: Lease['end'] = async (run) => {
    try {
      return await finishJob(db, name, fence, run);
    } catch (error) {
      // Only what an outage kept back: an end that the database refuses would be refused again.
      if (isRetryable(error)) ends.set(name, () => end(run));
      throw error;
    }
  };

  return {
    cursor,
    isLost: () => lost,
    beat(kept) {
      // One that hangs gives its lease up in the end: somebody else must be able to take over.
      const endsAt = performance.now() + (job.maxRunSeconds + leaseSeconds) * 1000;
      let beating = false;
      const timer = setInterval(async () => {
        if (beating || performance.now() > endsAt) return;
        beating = true;
        try {
          if ((await keepJob(db, { name, leaseSeconds }, fence, kept)).outcome === 'stale') {
            lost = true;
            logger.warn(`Job ${name} has lost its lease and ends`, { job: name });
          }
        } catch (error) {
          // The lease lasts for several beats; the run itself tells of a database that is gone.
          logger.debug(`Job ${name} could not say that it lives`, { job: name, error });
        }
        beating = false;
      }, HEARTBEAT_MS);
      timer.unref();
      return () => clearInterval(timer);
    },
    end,
  };
}

/** The same for work on the memory of this process: nobody else could do it. */
function takeOwnLease({ ownRows, clock }: RunDeps, job: Job): Lease | 'busy' {
  const before = ownRows.get(job.name);
  if (before?.running) return 'busy';
  const row: JobRow = {
    ...NEVER_RUN,
    ...before,
    name: job.name,
    pace: paceOf(job),
    running: true,
    due: false,
    last_started_at: clock.now().toISOString(),
  };
  ownRows.set(job.name, row);
  return {
    cursor: null,
    isLost: () => false,
    beat: () => () => {},
    async end({ outcome, result, finished_at }) {
      const failed = outcome === 'failed';
      ownRows.set(job.name, {
        ...row,
        running: false,
        last_finished_at: finished_at,
        last_outcome: outcome,
        last_result: result,
        last_success_at: failed ? row.last_success_at : finished_at,
        next_run_at: new Date(clock.now().getTime() + job.everySeconds * 1000).toISOString(),
        runs: row.runs + 1,
        failures: row.failures + Number(failed),
        failures_in_row: failed ? row.failures_in_row + 1 : 0,
      });
    },
  };
}
