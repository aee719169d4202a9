/**
 * sql/scheduled_jobs.sql where pg_cron is, and is not. The extension needs a server that loads it, so
 * its documented surface stands in for it: the table cron.job, cron.schedule(name, schedule, command)
 * and cron.unschedule(name), which fails for a name that is not there.
 */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const text = readFileSync(new URL('../../sql/scheduled_jobs.sql', import.meta.url), 'utf8');

const PG_CRON = `
  create schema cron;
  create table cron.job (jobid bigint generated always as identity, schedule text not null, command text not null,
    jobname name, unique (jobname));
  create function cron.schedule(job_name name, schedule text, command text) returns bigint language sql as $$
    insert into cron.job (jobname, schedule, command) values (job_name, schedule, command) returning jobid $$;
  create function cron.unschedule(job_name name) returns boolean language plpgsql as $$
    begin
      delete from cron.job where jobname = job_name;
      if not found then raise exception 'could not find valid entry for job ''%''', job_name; end if;
      return true;
    end $$;`;

const database = testDatabase();

async function paste(sql: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: database.current.connectionString });
  const notices: string[] = [];
  client.on('notice', (notice) => notices.push(notice.message ?? ''));
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
  return notices;
}

const jobs = () =>
  database.current.query<{ jobname: string; schedule: string; command: string }>(
    'select jobname, schedule, command from cron.job order by jobname',
  );
const run = (name: string, args = {}) =>
  callAsService(database.current, 'run_sql_job', { p_name: name, ...args });

it('says that pg_cron is absent, and does nothing', async () => {
  expect(await paste(text)).toEqual([expect.stringMatching(/pg_cron is not here/)]);
});

describe('with pg_cron', () => {
  beforeAll(async () => {
    await paste(PG_CRON);
    // As the runbook's own job of that name: it is taken over, not doubled.
    await paste(`select cron.schedule('subscription_cache_cleanup', '0 * * * *', 'select 1')`);
    await paste(`select cron.schedule('nightly-report', '0 1 * * *', 'select 1')`);
    await paste(text);
  });

  it('schedules each job once, however often it is pasted, and leaves others alone', async () => {
    const first = await jobs();
    await paste(text);
    expect(await jobs()).toEqual(first);
    expect(first.map(({ jobname, schedule }) => `${jobname} ${schedule}`)).toEqual([
      'nightly-report 0 1 * * *',
      'purser-cleanup-events 0 3 * * 0',
      'purser-cleanup-notifications 30 3 * * *',
      'purser-consistency-check * * * * *',
      'purser-consistency-ledger */5 4-9 1 * *',
      'purser-expire-credits * * * * *',
      'purser-seal-ledger * * * * *',
      'subscription_cache_cleanup */5 * * * *',
    ]);
  });

  it('schedules commands that run, each in one transaction, and leave their trace', async () => {
    for (const { jobname, command } of await jobs()) {
      if (jobname === 'nightly-report') continue;
      const [row] = await database.current.query<{ run_sql_job: unknown }>(command);
      expect([jobname, row?.run_sql_job]).toEqual([
        jobname,
        expect.objectContaining({ outcome: 'done' }),
      ]);
      const [again] = await database.current.query<{ run_sql_job: unknown }>(command);
      expect([jobname, again?.run_sql_job]).toEqual([jobname, { outcome: 'not_due' }]);
    }
    const rows = await database.current.query(
      `select name, runs::int, last_outcome from scheduled_jobs order by name`,
    );
    expect(rows).toHaveLength(7);
    for (const row of rows) expect(row).toMatchObject({ runs: 1, last_outcome: 'done' });
  });

  it('calls the tick over pg_net with the secret from the vault, as the lines in the file say', async () => {
    const block = /-- tick: begin\n([\s\S]*?)-- tick: end/.exec(text)?.[1] ?? '';
    await paste(`
      create schema vault; create schema net;
      create table vault.decrypted_secrets (name text, decrypted_secret text);
      create function vault.create_secret(new_secret text, new_name text) returns void language sql as $$
        insert into vault.decrypted_secrets values (new_name, new_secret) $$;
      create table net.calls (url text, headers jsonb, timeout integer);
      create function net.http_get(url text, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 2000)
      returns bigint language sql as $$ insert into net.calls values (url, headers, timeout_milliseconds) returning 1 $$;`);
    await paste(block.replaceAll(/^-- ?/gm, ''));
    const tick = (await jobs()).find(({ jobname }) => jobname === 'purser-tick');
    expect(tick?.schedule).toBe('* * * * *');
    await paste(tick?.command ?? '');
    expect(await database.current.query('select * from net.calls')).toEqual([
      {
        url: 'https://your-app.vercel.app/api/cron/tick',
        headers: { Authorization: 'Bearer your CRON_SECRET' },
        timeout: 60_000,
      },
    ]);
  });
});

describe('a job run by the database', () => {
  it('expires, seals and checks as the server’s job does', async () => {
    const user = userId('expiring');
    await callAsService(database.current, 'ensure_user', { p_user_id: user });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: user,
      p_type: 'bonus',
      p_key: 'grant:short',
      p_lots: [{ credits: 7, expires_at: '2026-01-02T00:00:00Z' }],
      p_now: '2026-01-01T00:00:00Z',
    });
    expect(await run('expire-credits', { p_due_only: false })).toMatchObject({
      outcome: 'done',
      result: { done: 1, by: 'sql' },
    });
    expect((await run('seal-ledger', { p_due_only: false })).result.done).toBeGreaterThanOrEqual(2);
    expect((await run('consistency-check', { p_due_only: false })).outcome).toBe('done');
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
  });

  it('is busy while a server has the lease, and a server’s claim is busy while it runs', async () => {
    const claim = { p_name: 'seal-ledger', p_lease_seconds: 60, p_holder: 'server' };
    const { fence } = await callAsService(database.current, 'claim_job', claim);
    expect(await run('seal-ledger', { p_due_only: false })).toEqual({ outcome: 'busy' });
    await callAsService(database.current, 'finish_job', {
      p_name: 'seal-ledger',
      p_fence: fence,
      p_outcome: 'done',
      p_result: {},
    });
    await database.current.asRole('service_role', {}, async (client) => {
      const { rows } = await client.query(`select run_sql_job('seal-ledger', 20, false) as answer`);
      expect(rows[0].answer.outcome).toBe('done');
      // Not committed yet: nobody else may begin.
      expect(await callAsService(database.current, 'claim_job', claim)).toEqual({
        outcome: 'busy',
      });
    });
    expect(await callAsService(database.current, 'claim_job', claim)).toMatchObject({
      outcome: 'claimed',
    });
  });

  it('takes one page where it holds users’ locks, and all of them where nobody waits', async () => {
    const [original] = await database.current.query<{ text: string }>(
      `select pg_get_functiondef('purser.run_job_page(text)'::regprocedure) as text`,
    );
    await paste(`
      create sequence purser.page_numbers;
      grant usage on sequence purser.page_numbers to purser_ledger;
      create or replace function purser.run_job_page(p_name text) returns jsonb language sql as $$
        select jsonb_build_object('count', 1, 'more', nextval('purser.page_numbers') % 5 <> 0) $$;`);
    try {
      const done = async (name: string) => (await run(name, { p_due_only: false })).result.done;
      expect(await done('expire-credits')).toBe(1);
      const [row] = await database.current.query(
        `select next_run_at <= clock_timestamp() as due from scheduled_jobs where name = 'expire-credits'`,
      );
      expect(row).toEqual({ due: true });
      expect(await done('cleanup-events')).toBe(4);
      expect(await done('consistency-ledger')).toBe(5);
    } finally {
      await paste(`${original?.text}; drop sequence purser.page_numbers`);
    }
  });

  it('that fails says why, is counted, and is due again within a minute', async () => {
    await database.current.query(
      'alter function public.clear_expired_subscription_cache rename to clear_away',
    );
    expect(await run('subscription_cache_cleanup', { p_due_only: false })).toMatchObject({
      outcome: 'failed',
      result: { error: expect.stringContaining('clear_expired_subscription_cache') },
    });
    await database.current.query(
      'alter function public.clear_away rename to clear_expired_subscription_cache',
    );
    const [row] = await database.current.query(
      `select failures_in_row, next_run_at < now() + interval '61 seconds' as soon
       from scheduled_jobs where name = 'subscription_cache_cleanup'`,
    );
    expect(row).toEqual({ failures_in_row: 1, soon: true });
  });

  it('is one the database can run alone', async () => {
    await expect(run('webhook-sweep')).rejects.toMatchObject({ code: 'PT404' });
  });
});
