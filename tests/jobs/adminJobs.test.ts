/** GET /api/admin/jobs over the whole product, and the table of docs/jobs.md beside it. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { JobState, Pace } from '../../src/jobs/jobs.types.ts';
import { testDatabase } from '../support/postgres.ts';
import {
  ADMIN_KEY,
  CRON_SECRET,
  SERVICE_KEY,
  type Stack,
  startStack,
  waitFor,
} from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

const list = async (): Promise<JobState[]> =>
  (await stack.call('GET', '/api/admin/jobs', { bearer: ADMIN_KEY })).body.data;

it.each([
  ['nobody', undefined, 401],
  ['a wrong key', 'wrong', 401],
  ['a service', SERVICE_KEY, 403],
  ['the cron secret', CRON_SECRET, 403],
  ['an admin', ADMIN_KEY, 200],
])('answers %s as it should', async (_who, bearer, status) => {
  const answer = await stack.call('GET', '/api/admin/jobs', bearer === undefined ? {} : { bearer });
  expect(answer.status).toBe(status);
});

it('tells of a run and of the next one', async () => {
  const run = await waitFor(async () => {
    const { body } = await stack.call('POST', '/api/admin/jobs/cleanup-events/run', {
      bearer: ADMIN_KEY,
    });
    return body.outcome === 'done' ? body : null;
  }, 'the job');
  const job = (await list()).find(({ name }) => name === 'cleanup-events');
  expect(job).toMatchObject({
    running: false,
    due: false,
    overdue: false,
    last_outcome: 'done',
    last_result: run.result,
    runs: 1,
    failures: 0,
  });
  const next = new Date(job?.next_run_at ?? '');
  expect([next.getUTCDay(), next.getUTCHours(), next.getUTCMinutes()]).toEqual([0, 3, 0]);
  expect(next.getTime()).toBeGreaterThan(Date.now());
});

it('lists every job with the pace that the manual says', async () => {
  const docs = readFileSync(new URL('../../docs/jobs.md', import.meta.url), 'utf8');
  const told = [...docs.matchAll(/^\| `([\w-]+)` \| ([^|]+) \|/gm)].map(([, name, pace]) => [
    name,
    pace,
  ]);
  expect((await list()).map(({ name, pace }) => [name, describePace(pace)])).toEqual(told);
});

function describePace(pace: Pace | null): string {
  if (pace === null) return 'none';
  if (pace.hour !== undefined) {
    const when =
      'weekday' in pace && pace.weekday === 0 ? 'Sunday' : `day ${'day' in pace && pace.day}`;
    return `${when}, ${pace.hour}:00 UTC`;
  }
  const { every_seconds: seconds } = pace;
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}
