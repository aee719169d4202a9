import { PurserError } from '../core/errors.ts';
import { type Job, type JobsDeps, paceOf } from './job.ts';
import type { JobRun, JobState, Jobs } from './jobs.types.ts';
import { type JobRow, listJobs, NEVER_RUN, type Unanswered } from './leases.ts';
import { runUnderLease } from './runUnderLease.ts';

/**
 * Bound of one tick: with the last page of the last job it stays below the 60 s that platforms
 * give a request.
 */
export const TICK_SECONDS_MAX = 40;

export type JobRegistry = Jobs & {
  /**
   * Runs each job that is due, once, one after the other: the tick of serverless set-ups. It ends
   * within TICK_SECONDS_MAX; each job may use its share of what is left, so that a long inbox
   * starves nobody. What is not done is the next tick's. Answers the runs; jobs that are not due
   * are none.
   */
  tick(): Promise<JobRun[]>;
};

/** A job that failed, was stopped or missed its hour does not wait for the whole of its pace. */
const LOOK_SECONDS_MAX = 60;

const lookSeconds = ({ everySeconds, perProcess }: Job) =>
  perProcess ? everySeconds : Math.min(everySeconds, LOOK_SECONDS_MAX);

/**
 * Runs jobs by name, each at most once at a time over all processes of a database: the lease and
 * the time of the next run are a row of scheduled_jobs.
 */
export function createJobs(deps: JobsDeps, registry: Job[]): JobRegistry {
  const { db, clock, logger } = deps;
  const byName = new Map(registry.map((job) => [job.name, job]));
  const underWay = new Set<Promise<unknown>>();
  /** Jobs of this process' own memory: what others have in the table. */
  const ownRows = new Map<string, JobRow>();
  const unanswered: Unanswered = { claims: new Map(), ends: new Map() };
  let schedule: { stop(): void }[] = [];
  let stopping = false;

  const runDeps = { ...deps, ownRows, unanswered, isStopping: () => stopping };
  const runOnce = (job: Job, dueOnly: boolean, secondsMax = job.maxRunSeconds) =>
    runUnderLease(runDeps, job, {
      dueOnly,
      secondsMax: Math.min(job.maxRunSeconds, secondsMax),
    });

  function track<T>(work: Promise<T>): Promise<T> {
    underWay.add(work);
    const forget = () => underWay.delete(work);
    work.then(forget, forget);
    return work;
  }

  async function scheduled(job: Job): Promise<void> {
    try {
      await track(runOnce(job, true));
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
      const run = await track(runOnce(job, false));
      if (run === null) throw new Error(`Job ${name} was not claimed although it was asked for`);
      return run;
    },

    async tick() {
      const endsAt = clock.now().getTime() + TICK_SECONDS_MAX * 1000;
      const waiting = new Set(
        (await listJobs(db)).jobs.filter(({ due }) => !due).map(({ name }) => name),
      );
      const due = registry.filter(
        ({ name, perProcess }) =>
          perProcess ||
          !waiting.has(name) ||
          unanswered.claims.has(name) ||
          unanswered.ends.has(name),
      );
      const runs: JobRun[] = [];
      for (const [index, job] of due.entries()) {
        const secondsLeft = (endsAt - clock.now().getTime()) / 1000;
        if (secondsLeft <= 0) break;
        const run = await track(runOnce(job, true, secondsLeft / (due.length - index)));
        if (run !== null) runs.push(run);
      }
      return runs;
    },

    async list() {
      const { as_of, jobs: rows } = await listJobs(db);
      const stored = new Map(rows.map((row) => [row.name, row]));
      const known = registry.map((job): JobState => {
        const { name, perProcess = false } = job;
        const row = perProcess ? ownRows.get(name) : stored.get(name);
        return { ...NEVER_RUN, ...row, name, pace: paceOf(job), per_process: perProcess };
      });
      const others = rows
        .filter(({ name }) => !byName.has(name))
        .map((row) => ({ ...row, per_process: false }));
      return { as_of, jobs: [...known, ...others] };
    },

    start(every) {
      stopping = false;
      schedule = registry.map((job) => every(lookSeconds(job), () => scheduled(job)));
    },

    async stop() {
      stopping = true;
      for (const timer of schedule) timer.stop();
      schedule = [];
      await Promise.allSettled(underWay);
    },
  };
}
