import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { Database } from '../../src/core/ports.ts';
import type { Job } from '../../src/jobs/job.ts';
import { createJobs, TICK_SECONDS_MAX } from '../../src/jobs/jobs.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { collectLines } from '../support/redisLogger.ts';

const database = testDatabase();
let db: Database;
beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString });
});
afterAll(() => db.close());

/**
 * Jobs with so many pages of five seconds each, on a clock that only they move; `firstSeconds` is
 * what a job needs before it looks at the time.
 */
function createHarness(pages: Record<string, number>, firstSeconds: Record<string, number> = {}) {
  let nowMs = Date.now();
  const startedAt = nowMs;
  const done: Record<string, number> = {};
  const registry = Object.entries(pages).map(
    ([name, available]): Job => ({
      name,
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      async run(shouldStop) {
        nowMs += (firstSeconds[name] ?? 0) * 1_000;
        let taken = 0;
        while (taken < available && !shouldStop()) {
          nowMs += 5_000;
          taken += 1;
        }
        done[name] = taken;
        return { pages: taken };
      },
    }),
  );
  const clock = { now: () => new Date(nowMs) };
  const jobs = createJobs({ db, clock, logger: collectLines().logger }, registry);
  return { jobs, done, elapsedSeconds: () => (nowMs - startedAt) / 1000 };
}

it('ends within its bound, and an endless job starves no other', async () => {
  const endless = Number.POSITIVE_INFINITY;
  const { jobs, done, elapsedSeconds } = createHarness({ a: endless, b: endless, c: 1, d: 1 });
  const runs = await jobs.tick();
  expect(runs.map(({ job, outcome }) => `${job} ${outcome}`)).toEqual([
    'a done',
    'b done',
    'c done',
    'd done',
  ]);
  expect(done).toMatchObject({ c: 1, d: 1 });
  expect(elapsedSeconds()).toBeLessThanOrEqual(TICK_SECONDS_MAX + 5);
});

it('leaves the jobs it has no time for due, for the next tick', async () => {
  const { jobs, elapsedSeconds } = createHarness({ e: 0, f: 0 }, { e: TICK_SECONDS_MAX });
  expect((await jobs.tick()).map(({ job }) => job)).toEqual(['e']);
  expect(elapsedSeconds()).toBe(TICK_SECONDS_MAX);
  expect((await jobs.tick()).map(({ job, outcome }) => `${job} ${outcome}`)).toEqual(['f done']);
});

it('gives what a short job leaves of its share to those after it', async () => {
  const { jobs, done } = createHarness({ g: 0, h: 0, i: 0, j: Number.POSITIVE_INFINITY });
  await jobs.tick();
  expect(done.j).toBe(TICK_SECONDS_MAX / 5);
});
