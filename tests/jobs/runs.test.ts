/** Runs of jobs: bounded, resumed, seen while they last, and counted when they fail. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { PurserError } from '../../src/core/errors.ts';
import type { Database, Json } from '../../src/core/ports.ts';
import type { Job } from '../../src/jobs/job.ts';
import { createJobs } from '../../src/jobs/jobs.ts';
import type { JobRun } from '../../src/jobs/jobs.types.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { collectLines } from '../support/redisLogger.ts';
import { waitFor } from '../support/stack.ts';

const database = testDatabase();
let db: Database;
beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString });
});
afterAll(() => db.close());

let made = 0;
function createHarness(job: Partial<Job>, cut: (db: Database) => Database = (whole) => whole) {
  made += 1;
  let nowMs = Date.now();
  const { logger, lines } = collectLines();
  const observed: [JobRun, number][] = [];
  const entry: Job = {
    name: `job-${made}`,
    everySeconds: 60,
    leaseSeconds: 60,
    maxRunSeconds: 30,
    run: async () => ({}),
    ...job,
  };
  const open = (reached: Database = db) =>
    createJobs(
      {
        db: reached,
        logger,
        clock: { now: () => new Date(nowMs) },
        observe: (run, seconds) => observed.push([run, seconds]),
      },
      [entry],
    );
  const jobs = open(cut(db));
  return {
    name: entry.name,
    jobs,
    open,
    lines,
    observed,
    pass: (seconds: number) => {
      nowMs += seconds * 1000;
    },
    run: () => jobs.run(entry.name, 'test'),
    state: async () => (await jobs.list()).jobs.find(({ name }) => name === entry.name),
  };
}

describe('a run', () => {
  it('is asked to stop at its bound, and the next one goes on from there, at once', async () => {
    const seen: Json[] = [];
    const harness = createHarness({
      async run(shouldStop, { cursor, report }) {
        let at = Number(cursor?.at ?? 0);
        seen.push(cursor?.at ?? null);
        while (at < 100 && !shouldStop()) {
          at += 1;
          harness.pass(1);
          report({ done: at }, { at });
        }
        return { done: at };
      },
    });
    expect((await harness.run()).result).toEqual({ done: 30 });
    expect(await harness.state()).toMatchObject({ due: true, last_result: { done: 30 } });
    for (let n = 0; n < 3; n += 1) await harness.jobs.tick();
    expect(await harness.state()).toMatchObject({ due: false, last_result: { done: 100 } });
    await harness.run();
    expect(seen).toEqual([null, 30, 60, 90, null]);
  });

  it('ends when its process stops, and is the next process’ to go on with', async () => {
    const harness = createHarness({
      async run(shouldStop, { cursor, report }) {
        report(null, { at: 'half' });
        while (cursor === null && !shouldStop()) await new Promise(setImmediate);
        return { from: cursor?.at };
      },
    });
    const run = harness.run();
    await waitFor(async () => (await harness.state())?.running, 'the run');
    await harness.jobs.stop();
    expect((await run).outcome).toBe('done');
    expect((await harness.open().tick()).map(({ result }) => result)).toEqual([{ from: 'half' }]);
  });

  it('that fails is logged, counted and tried again, and keeps its place', async () => {
    const harness = createHarness({
      everySeconds: 86_400,
      async run(_stop, { cursor, report }) {
        report({ done: 7 }, { at: 7 });
        if (cursor === null) throw new Error('no luck');
        return { from: cursor?.at };
      },
    });
    expect(await harness.run()).toMatchObject({ outcome: 'failed', result: { error: 'no luck' } });
    expect(harness.lines).toContain(`error: Job ${harness.name} failed`);
    const state = await harness.state();
    expect(state).toMatchObject({ failures: 1, failures_in_row: 1, last_outcome: 'failed' });
    expect(Date.parse(state?.next_run_at ?? '') - Date.now()).toBeLessThan(61_000);
    expect((await harness.run()).result).toEqual({ from: 7 });
    expect(harness.observed.map(([{ outcome }]) => outcome)).toEqual(['failed', 'done']);
  });

  it('is not begun while another lasts, and says so', async () => {
    let release: () => void = () => {};
    const harness = createHarness({
      run: () => new Promise((resolve) => (release = () => resolve({}))),
    });
    const first = harness.run();
    await waitFor(async () => (await harness.state())?.running, 'the run');
    expect(await harness.open().run(harness.name, 'other')).toMatchObject({ outcome: 'busy' });
    expect(await harness.jobs.tick()).toEqual([]);
    release();
    expect((await first).outcome).toBe('done');
    expect(harness.observed).toHaveLength(1);
  });

  it('keeps its lease and shows its progress while it lasts, and ends when the lease is lost', async () => {
    const harness = createHarness({
      async run(shouldStop, { report }) {
        report({ users: 3 }, { at: 'u3' });
        while (!shouldStop()) await new Promise((resolve) => setTimeout(resolve, 20));
        return { told: true };
      },
    });
    const run = harness.run();
    // The first heartbeat comes after five seconds.
    await waitFor(async () => (await harness.state())?.progress, 'a heartbeat');
    expect(await harness.state()).toMatchObject({ running: true, progress: { users: 3 } });
    await database.current.query(
      `begin; set local role purser_ledger;
       update scheduled_jobs set lease = lease + 1 where name = '${harness.name}'; commit`,
    );
    expect((await run).result).toEqual({ told: true });
    expect(harness.lines).toContain(`warn: Job ${harness.name} has lost its lease and ends`);
  });

  it('of a job on the memory of this process needs no lease, but is alone too', async () => {
    let release: () => void = () => {};
    const harness = createHarness({
      perProcess: true,
      run: () => new Promise((resolve) => (release = () => resolve({ kept: 1 }))),
    });
    const first = harness.run();
    expect(await harness.run()).toMatchObject({ outcome: 'busy' });
    release();
    await first;
    expect(await harness.state()).toMatchObject({
      per_process: true,
      running: false,
      last_result: { kept: 1 },
      runs: 1,
    });
    const rows = await database.current.query(
      `select from scheduled_jobs where name = '${harness.name}'`,
    );
    expect(rows).toEqual([]);
  });
});

it('is looked for at least each minute by a server, however long its pace', () => {
  for (const [job, seconds] of [
    [{ everySeconds: 2 }, 2],
    [{ everySeconds: 21_600 }, 60],
    [{ everySeconds: 300, perProcess: true }, 300],
  ] as const) {
    const looked: number[] = [];
    createHarness(job).jobs.start((every) => {
      looked.push(every);
      return { stop: () => {} };
    });
    expect(looked).toEqual([seconds]);
  }
});

it('lists a job that has never run, and one that only the database runs', async () => {
  await db.rpc('claim_job', { p_name: 'by-sql', p_lease_seconds: 60 });
  const harness = createHarness({ calendar: { weekday: 0, hour: 3 } });
  const { jobs } = await harness.jobs.list();
  expect(jobs[0]).toMatchObject({
    name: harness.name,
    pace: { every_seconds: 60, weekday: 0, hour: 3 },
    runs: 0,
    last_outcome: null,
  });
  expect(jobs.find(({ name }) => name === 'by-sql')).toMatchObject({ running: true });
});

/**
 * The database without the answers to some calls, as an outage that outlasts the adapter's repeats
 * leaves them: carried out or not, nobody is told.
 */
function createOutage() {
  const lost = new Map<string, 'done' | 'not_done'>();
  const cut = (whole: Database): Database => ({
    ...whole,
    async rpc<T>(...[name, args, options]: Parameters<Database['rpc']>): Promise<T> {
      const kind = lost.get(name);
      if (kind === undefined) return whole.rpc<T>(name, args, options);
      if (kind === 'done') await whole.rpc(name, args, options);
      throw new PurserError('dependency_down', { detail: 'no answer' });
    },
  });
  return { cut, lost };
}

describe('an outage of the database', () => {
  it('at the call for the lease leaves the run to the same process, once', async () => {
    const { cut, lost } = createOutage();
    let release: () => void = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const harness = createHarness({ run: () => released.then(() => ({})) }, cut);
    lost.set('claim_job', 'done');
    for (const _ of [1, 2]) await expect(harness.run()).rejects.toThrow('no answer');
    lost.clear();
    expect(await harness.open().run(harness.name, 'other')).toMatchObject({ outcome: 'busy' });
    const both = [harness.run(), harness.run()];
    expect(await Promise.race(both)).toMatchObject({ outcome: 'busy' });
    release();
    const outcomes = (await Promise.all(both)).map(({ outcome }) => outcome);
    expect(outcomes.sort()).toEqual(['busy', 'done']);
    expect(await harness.state()).toMatchObject({ running: false, runs: 1, failures: 0 });
    expect(await harness.open().run(harness.name, 'other')).toMatchObject({ outcome: 'done' });
  });

  it('at the call for the lease is over for the tick too', async () => {
    const { cut, lost } = createOutage();
    const harness = createHarness({}, cut);
    lost.set('claim_job', 'done');
    await expect(harness.jobs.tick()).rejects.toThrow('no answer');
    lost.clear();
    expect(await harness.jobs.tick()).toMatchObject([{ outcome: 'done' }]);
    expect(await harness.jobs.tick()).toEqual([]);
  });

  it('at the end of a run is made up for before the next, with what the run came to', async () => {
    const { cut, lost } = createOutage();
    let ran = 0;
    const harness = createHarness({ run: async () => ({ ran: ++ran }) }, cut);
    lost.set('finish_job', 'not_done');
    await expect(harness.run()).rejects.toThrow('no answer');
    expect(await harness.open().run(harness.name, 'other')).toMatchObject({ outcome: 'busy' });
    lost.clear();
    expect(await harness.jobs.tick()).toEqual([]);
    expect(await harness.state()).toMatchObject({ runs: 1, failures: 0, last_result: { ran: 1 } });
    expect(await harness.run()).toMatchObject({ outcome: 'done', result: { ran: 2 } });
    expect(await harness.state()).toMatchObject({ runs: 2, failures: 0 });
  });

  it('at the end of a run that was written all the same changes nothing of another’s run', async () => {
    const { cut, lost } = createOutage();
    const harness = createHarness({ run: async () => ({ by: 'us' }) }, cut);
    lost.set('finish_job', 'done');
    await expect(harness.run()).rejects.toThrow('no answer');
    lost.clear();
    expect(await harness.open().run(harness.name, 'other')).toMatchObject({ outcome: 'done' });
    expect(await harness.run()).toMatchObject({ outcome: 'done' });
    expect(await harness.state()).toMatchObject({ runs: 3, failures: 0 });
  });
});
