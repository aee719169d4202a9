/** The row of a job in scheduled_jobs: who has the lease, when it is due, how its runs ended. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Database, Json } from '../../src/core/ports.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
let db: Database;
beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString });
});
afterAll(() => db.close());
let job = '';
let made = 0;
beforeEach(() => {
  made += 1;
  job = `job-${made}`;
});

const EACH_MINUTE = { every_seconds: 60 };
const SUNDAYS = { every_seconds: 60, weekday: 0, hour: 3 };

interface Claimed {
  outcome: 'claimed' | 'busy' | 'not_due';
  fence: number;
  cursor: unknown;
}
const claim = (
  now: string,
  { due = true, holder = 'a', pace = EACH_MINUTE as Record<string, number>, lease = 60 } = {},
) =>
  db.rpc<Claimed>('claim_job', {
    p_name: job,
    p_lease_seconds: lease,
    p_due_only: due,
    p_holder: holder,
    p_pace: pace,
    p_now: now,
  });
const finish = (
  fence: number,
  now: string,
  end: { outcome?: string; more?: boolean; cursor?: Json } = {},
) =>
  db.rpc<{ outcome: string }>('finish_job', {
    p_name: job,
    p_fence: fence,
    p_outcome: end.outcome ?? 'done',
    p_result: { n: 1 },
    p_more: end.more ?? false,
    p_cursor: end.cursor ?? null,
    p_now: now,
  });
const state = async (now: string) => {
  // biome-ignore lint/suspicious/noExplicitAny: compared as JSON
  const { jobs } = await db.rpc<{ jobs: any[] }>('list_jobs', { p_now: now });
  return jobs.find(({ name }) => name === job);
};

describe('a pace in seconds', () => {
  it('is due at once, then shortly before its time is over', async () => {
    const { fence } = await claim('2026-11-20T10:00:00Z');
    await finish(fence, '2026-11-20T10:00:05Z');
    expect(await claim('2026-11-20T10:00:52Z')).toEqual({ outcome: 'not_due' });
    expect((await state('2026-11-20T10:00:52Z')).next_run_at).toBe('2026-11-20T10:00:53.000Z');
    expect(await claim('2026-11-20T10:00:53Z')).toMatchObject({ outcome: 'claimed', fence: 2 });
  });

  it('is kept over hours too', async () => {
    const pace = { every_seconds: 21_600 };
    await finish((await claim('2026-11-20T10:00:00Z', { pace })).fence, '2026-11-20T10:00:00Z');
    expect((await state('2026-11-20T10:00:00Z')).next_run_at).toBe('2026-11-20T15:59:30.000Z');
  });

  it('does not hold up who asks for a run now', async () => {
    await finish((await claim('2026-11-20T10:00:00Z')).fence, '2026-11-20T10:00:01Z');
    expect(await claim('2026-11-20T10:00:02Z', { due: false })).toMatchObject({
      outcome: 'claimed',
    });
  });
});

describe('a calendar', () => {
  it.each([
    ['2026-11-20T10:00:00Z', SUNDAYS, '2026-11-22T03:00:00.000Z'],
    ['2026-11-22T02:59:59Z', SUNDAYS, '2026-11-22T03:00:00.000Z'],
    ['2026-11-22T03:00:00Z', SUNDAYS, '2026-11-29T03:00:00.000Z'],
    [
      '2026-12-31T23:59:00Z',
      { every_seconds: 60, weekday: 4, hour: 0 },
      '2027-01-07T00:00:00.000Z',
    ],
    ['2026-11-20T10:00:00Z', { every_seconds: 60, day: 1, hour: 4 }, '2026-12-01T04:00:00.000Z'],
    ['2026-12-01T03:00:00Z', { every_seconds: 60, day: 1, hour: 4 }, '2026-12-01T04:00:00.000Z'],
    ['2026-12-01T04:00:00Z', { every_seconds: 60, day: 1, hour: 4 }, '2027-01-01T04:00:00.000Z'],
    ['2027-01-29T00:00:00Z', { every_seconds: 60, day: 28, hour: 4 }, '2027-02-28T04:00:00.000Z'],
  ])('that is seen for the first time at %s (%j) waits for %s', async (now, pace, next) => {
    expect(await claim(now, { pace })).toEqual({ outcome: 'not_due' });
    expect((await state(now)).next_run_at).toBe(next);
  });

  it('is made up for when nobody ran at its hour, once', async () => {
    await claim('2026-11-20T10:00:00Z', { pace: SUNDAYS });
    expect((await state('2026-11-22T03:59:00Z')).overdue).toBe(false);
    expect((await state('2026-11-22T04:01:00Z')).overdue).toBe(true);
    const { fence } = await claim('2026-11-24T12:00:00Z', { pace: SUNDAYS });
    expect(fence).toBe(1);
    await finish(fence, '2026-11-24T12:01:00Z');
    expect((await state('2026-11-24T12:01:00Z')).next_run_at).toBe('2026-11-29T03:00:00.000Z');
  });

  it('does not have to come round for what a run has left over, or for a failure', async () => {
    await claim('2026-11-20T10:00:00Z', { pace: SUNDAYS });
    const first = await claim('2026-11-22T03:00:00Z', { pace: SUNDAYS });
    await finish(first.fence, '2026-11-22T03:01:00Z', { more: true, cursor: { at: 'here' } });
    const second = await claim('2026-11-22T03:01:00Z', { pace: SUNDAYS });
    expect(second).toEqual({ outcome: 'claimed', fence: 2, cursor: { at: 'here' } });
    await finish(second.fence, '2026-11-22T03:02:00Z', {
      outcome: 'failed',
      cursor: { at: 'here' },
    });
    expect((await state('2026-11-22T03:02:00Z')).next_run_at).toBe('2026-11-22T03:03:00.000Z');
    const third = await claim('2026-11-22T03:03:00Z', { pace: SUNDAYS });
    await finish(third.fence, '2026-11-22T03:03:01Z', { outcome: 'failed' });
    expect(await state('2026-11-22T03:03:01Z')).toMatchObject({
      next_run_at: '2026-11-22T03:05:01.000Z',
      runs: 3,
      failures: 2,
      failures_in_row: 2,
      last_outcome: 'failed',
      last_success_at: '2026-11-22T03:01:00.000Z',
    });
  });

  it('follows a version that changes the pace', async () => {
    await finish((await claim('2026-11-20T10:00:00Z')).fence, '2026-11-20T10:00:00Z');
    await claim('2026-11-20T10:00:01Z', { pace: SUNDAYS });
    expect(await state('2026-11-20T10:00:01Z')).toMatchObject({
      pace: SUNDAYS,
      next_run_at: '2026-11-22T03:00:00.000Z',
    });
  });
});

describe('a lease', () => {
  it('goes to one of twenty who ask at once', async () => {
    const claims = await concurrently(20, (n) => claim('2026-11-20T10:00:00Z', { holder: `${n}` }));
    expect(countBy(claims.map(({ outcome }) => outcome))).toEqual({ claimed: 1, busy: 19 });
  });

  it('is given back to the holder whose answer was lost, and to nobody else', async () => {
    expect(await claim('2026-11-20T10:00:00Z')).toMatchObject({ outcome: 'claimed', fence: 1 });
    expect(await claim('2026-11-20T10:00:01Z')).toMatchObject({ outcome: 'claimed', fence: 1 });
    expect(await claim('2026-11-20T10:00:01Z', { holder: 'b' })).toEqual({ outcome: 'busy' });
  });

  it('of a run that died runs out, is counted as lost, and its place is not forgotten', async () => {
    const { fence } = await claim('2026-11-20T10:00:00Z');
    await db.rpc('keep_job', {
      p_name: job,
      p_fence: fence,
      p_lease_seconds: 0,
      p_progress: { users: 5 },
      p_cursor: { at: 'u5' },
    });
    expect(await state(new Date(Date.now() + 1000).toISOString())).toMatchObject({
      running: false,
      lost: true,
      progress: { users: 5 },
    });
    const later = new Date(Date.now() + 60_000).toISOString();
    expect(await claim(later, { holder: 'b' })).toEqual({
      outcome: 'claimed',
      fence: 2,
      cursor: { at: 'u5' },
    });
    expect(await finish(fence, later)).toEqual({ outcome: 'stale' });
    expect(await state(later)).toMatchObject({
      running: true,
      runs: 1,
      failures: 1,
      last_outcome: 'lost',
    });
    expect(await finish(2, later)).toEqual({ outcome: 'done' });
    expect(await finish(2, later)).toEqual({ outcome: 'stale' });
    expect(await state(later)).toMatchObject({ runs: 2, failures: 1, failures_in_row: 0 });
  });

  it('that was lost cannot be kept', async () => {
    const { fence } = await claim('2026-11-20T10:00:00Z', { lease: 1 });
    await claim('2026-11-20T10:00:02Z', { holder: 'b' });
    const kept = { p_name: job, p_fence: fence, p_lease_seconds: 60 };
    expect(await db.rpc('keep_job', kept)).toEqual({ outcome: 'stale' });
  });
});
