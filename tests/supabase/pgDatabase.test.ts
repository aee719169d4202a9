import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { PurserError } from '../../src/core/errors.ts';
import type { Database } from '../../src/core/ports.ts';
import { createPgDatabase, type PgDatabaseOptions } from '../../src/supabase/pgDatabase.ts';
import { type FaultProxy, startFaultProxy } from '../support/faultProxy.ts';
import { clusterUrl, testDatabase } from '../support/postgres.ts';

const database = testDatabase();
const opened: Database[] = [];
let proxy: FaultProxy;

/** Functions that behave as ours may; `log` shows what really happened. */
const FIXTURES = `
  create table public.log (id bigint generated always as identity, note text);
  create sequence public.calls;
  create function public.t_echo(p_json jsonb default '"default"', p_text text default 'default',
                                p_number bigint default 0, p_flag boolean default null)
  returns jsonb language sql as $$
    select jsonb_build_object('json', p_json, 'text', p_text, 'number', p_number, 'flag', p_flag) $$;
  create function public.t_note(p_note text) returns jsonb language plpgsql as $$
    begin
      insert into public.log (note) values (p_note);
      return jsonb_build_object('outcome', 'applied');
    end $$;
  create function public.t_raise(p_state text, p_message text, p_detail text default '')
  returns jsonb language plpgsql as $$
    begin
      raise exception using errcode = p_state, message = p_message, detail = p_detail;
    end $$;
  -- A sequence does not roll back, so it counts attempts.
  create function public.t_fail_first(p_times int, p_state text, p_note text)
  returns jsonb language plpgsql as $$
    declare
      v_call bigint := nextval('public.calls');
    begin
      insert into public.log (note) values (p_note);
      if v_call <= p_times then
        raise exception using errcode = p_state, message = 'try again';
      end if;
      return to_jsonb(v_call);
    end $$;
  create function public.t_sleep(p_seconds double precision) returns jsonb language sql as $$
    select to_jsonb(pg_sleep(p_seconds)::text) $$;
  create function public.t_lock(p_key int) returns jsonb language plpgsql as $$
    begin
      perform pg_advisory_xact_lock(p_key);
      return '"locked"'::jsonb;
    end $$;
  create function public.t_broken() returns jsonb language plpgsql as $$
    begin return public.does_not_exist(1); end $$;
  create function public.t_settings() returns jsonb language sql as $$
    select jsonb_build_object('statement', current_setting('statement_timeout'),
      'lock', current_setting('lock_timeout'), 'zone', current_setting('timezone')) $$;`;

function open(options: Partial<PgDatabaseOptions> = {}): Database {
  const opening = createPgDatabase({
    connectionString: database.current.connectionString,
    ...options,
    deps: { random: () => 0.5, ...options.deps },
  });
  opened.push(opening);
  return opening;
}

async function failureOf(promise: Promise<unknown>): Promise<PurserError> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (error instanceof PurserError) return error;
  throw error;
}

async function notes(): Promise<string[]> {
  const rows = await database.current.query<{ note: string }>('select note from log order by id');
  return rows.map((row) => row.note);
}

beforeAll(async () => {
  await database.current.query(FIXTURES);
  proxy = await startFaultProxy({ port: Number(new URL(clusterUrl()).port) });
});
afterAll(async () => {
  await Promise.all(opened.map((database) => database.close()));
  await proxy.close();
});

describe('arguments and answers', () => {
  it('passes every shape of JSON and leaves out what is undefined', async () => {
    const db = open();
    const nasty = `it's "quoted" \\ back\\\\slash; -- $1 $tag$ \n\u2028 ünï 🦆`;
    expect(
      await db.rpc('t_echo', {
        p_json: { list: [1, 'two', null, { deep: nasty }] },
        p_text: nasty,
        p_number: 9007199254740991,
        p_flag: false,
      }),
    ).toEqual({
      json: { list: [1, 'two', null, { deep: nasty }] },
      text: nasty,
      number: 9007199254740991,
      flag: false,
    });
    expect(await db.rpc('t_echo', { p_json: ['a', 1], p_text: null, p_number: -3 })).toEqual({
      json: ['a', 1],
      text: null,
      number: -3,
      flag: null,
    });
    expect(await db.rpc('t_echo', { p_json: undefined, p_text: undefined })).toEqual({
      json: 'default',
      text: 'default',
      number: 0,
      flag: null,
    });
    expect(await db.rpc('t_echo')).toMatchObject({ text: 'default' });
  });

  it('refuses text that Postgres cannot store and says where it is', async () => {
    const db = open();
    for (const args of [
      { p_text: 'a\0b' },
      { p_text: 'half \ud800' },
      { p_json: { 'k\0': 1 } },
      { p_json: ['ok', { deep: 'x\u0000' }] },
    ]) {
      const error = await failureOf(db.rpc('t_echo', args));
      expect(error.code).toBe('invalid_request');
      expect(error.message).toMatch(/t_echo\(p_(text|json)\)/);
    }
    expect(await db.rpc('t_echo', { p_json: { a: '\\u0000 is text here' } })).toMatchObject({
      json: { a: '\\u0000 is text here' },
    });
  });

  it('accepts only plain identifiers as names', async () => {
    const db = open();
    for (const name of ['T', 'a b', "x');drop table log;--", 'public.t_echo', '']) {
      expect((await failureOf(db.rpc(name))).code).toBe('internal');
    }
    const error = await failureOf(db.rpc('t_echo', { 'p_text => 1, p_json': 'x' }));
    expect(error.code).toBe('internal');
  });

  it('bounds the call in the server and leaves nothing set in the session', async () => {
    const db = open({ poolMax: 1, statementTimeoutMs: 4_000, lockTimeoutMs: 2_000 });
    expect(await db.rpc('t_settings')).toEqual({ statement: '4s', lock: '2s', zone: 'UTC' });
    expect(await db.rpc('t_settings', {}, { timeoutMs: 1_500 })).toEqual({
      statement: '1500ms',
      lock: '1500ms',
      zone: 'UTC',
    });
    await database.current.query(`create function public.t_session() returns jsonb language sql as
      $$ select to_jsonb(count(*)) from pg_prepared_statements $$`);
    expect(await db.rpc('t_session')).toBe(0);
  });
});

describe('errors by code', () => {
  it('maps PTnnn to our error with its detail and extensions', async () => {
    const error = await failureOf(
      open().rpc('t_raise', {
        p_state: 'PT402',
        p_message: 'insufficient_credits',
        p_detail: JSON.stringify({ detail: 'You need 7 and have 6.', balance: 6, needed: 7 }),
      }),
    );
    expect(error.code).toBe('insufficient_credits');
    expect(error.message).toBe('You need 7 and have 6.');
    expect(error.extensions).toEqual({ balance: 6, needed: 7 });
  });

  it('keeps a plain sentence as detail and treats an unknown code as a defect', async () => {
    const db = open();
    const plain = { p_state: 'PT404', p_message: 'user_not_found', p_detail: 'No user u9.' };
    expect(await failureOf(db.rpc('t_raise', plain))).toMatchObject({
      code: 'user_not_found',
      message: 'No user u9.',
    });
    const unknown = { p_state: 'PT418', p_message: 'teapot' };
    expect((await failureOf(db.rpc('t_raise', unknown))).code).toBe('internal');
  });

  it('does not take an error for ours because its text looks like one', async () => {
    const args = { p_state: 'P0001', p_message: 'insufficient_credits' };
    const error = await failureOf(open().rpc('t_raise', args));
    expect(error.code).toBe('internal');
    expect((error.cause as pg.DatabaseError).code).toBe('P0001');
  });

  it('names the ways to migrate when a function is missing', async () => {
    const db = open();
    for (const call of [db.rpc('no_such_function'), db.rpc('t_echo', { p_unknown: 1 })]) {
      const error = await failureOf(call);
      expect(error.code).toBe('dependency_down');
      expect(error.message).toMatch(/npm run migrate.*SQL editor.*supabase\/migrations/);
    }
    expect((await failureOf(db.rpc('t_broken'))).code).toBe('internal');
  });

  it('says which setting to look at when the server refuses the user', async () => {
    const url = new URL(database.current.connectionString);
    url.password = 'wrong';
    const error = await failureOf(open({ connectionString: url.toString() }).rpc('t_echo'));
    expect(error.code).toBe('dependency_down');
    expect(error.message).toContain('DATABASE_URL');
    expect(error.message).not.toContain('wrong');
  });

  it('rejects an address that is no Postgres URL without printing it', () => {
    for (const connectionString of ['secret@host', 'https://u:secret@host/db']) {
      expect(() => createPgDatabase({ connectionString })).toThrow(/DATABASE_URL is not valid/);
      expect(() => createPgDatabase({ connectionString })).not.toThrow(/secret/);
    }
  });
});

describe('repeats', () => {
  it.each(['40001', '40P01', '55P03'])(
    'repeats after %s, which the server has rolled back, even a call that is not idempotent',
    async (state) => {
      await database.current.query(`truncate log; select setval('calls', 1, false)`);
      const args = { p_times: 2, p_state: state, p_note: state };
      expect(await open().rpc('t_fail_first', args, { idempotent: false })).toBe(3);
      expect(await notes()).toEqual([state]);
    },
  );

  it('gives up after its bound of attempts and says to come back', async () => {
    await database.current.query(`select setval('calls', 1, false)`);
    const waits: number[] = [];
    const db = open({
      retry: { attemptsMax: 4, baseDelayMs: 100, delayMaxMs: 150 },
      deps: { sleep: async (ms) => void waits.push(ms), random: () => 0.5 },
    });
    const args = { p_times: 100, p_state: '40001', p_note: 'never' };
    const error = await failureOf(db.rpc('t_fail_first', args));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect(waits).toEqual([50, 75, 75]);
    const [row] = await database.current.query('select last_value::int as calls from calls');
    expect(row).toEqual({ calls: 4 });
  });

  it('does not repeat what cannot succeed', async () => {
    await database.current.query(`select setval('calls', 1, false)`);
    const args = { p_times: 9, p_state: '23505', p_note: 'no' };
    expect((await failureOf(open().rpc('t_fail_first', args))).code).toBe('internal');
    const [row] = await database.current.query('select last_value::int as calls from calls');
    expect(row).toEqual({ calls: 1 });
  });

  it('repeats when the connection was refused before anything was sent', async () => {
    const connectionString = proxy.through(database.current.connectionString);
    proxy.setFault('refuse', 2);
    const db = open({ connectionString, poolMax: 1 });
    const before = proxy.accepted;
    expect(await db.rpc('t_note', { p_note: 'after refusal' }, { idempotent: false })).toEqual({
      outcome: 'applied',
    });
    expect(proxy.accepted - before).toBe(3);
  });

  it('answers dependency_down when nobody listens', async () => {
    const db = open({
      connectionString: 'postgresql://u:p@127.0.0.1:1/db',
      deps: { sleep: async () => undefined },
    });
    const error = await failureOf(db.rpc('t_echo'));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    await expect(db.ping()).rejects.toMatchObject({ code: 'dependency_down' });
  });
});

describe('an answer that is lost', () => {
  async function throughProxy() {
    proxy.setMode('pass');
    await database.current.query('truncate log');
    const connectionString = proxy.through(database.current.connectionString);
    const db = open({ connectionString, poolMax: 1 });
    await db.ping();
    return db;
  }

  it('is repeated when the call is idempotent', async () => {
    const db = await throughProxy();
    proxy.setFault('cut_on_answer', 1);
    expect(await db.rpc('t_note', { p_note: 'twice' })).toEqual({ outcome: 'applied' });
    expect(await notes()).toEqual(['twice', 'twice']);
  });

  it('is reported, not repeated, when the call is not', async () => {
    const db = await throughProxy();
    proxy.setFault('cut_on_answer', 1);
    const error = await failureOf(db.rpc('t_note', { p_note: 'once' }, { idempotent: false }));
    expect(error.code).toBe('dependency_down');
    expect(await notes()).toEqual(['once']);
  });

  it('ends in an error, not in waiting, when the network swallows it', async () => {
    const db = await throughProxy();
    proxy.setMode('black_hole');
    const options = { idempotent: false, timeoutMs: 50 };
    expect((await failureOf(db.rpc('t_note', { p_note: 'hole' }, options))).code).toBe(
      'dependency_down',
    );
    proxy.setMode('pass');
    expect(await db.rpc('t_echo', { p_text: 'well again' })).toMatchObject({ text: 'well again' });
  });

  it('does not end the process when connections die in the pool and under a call', async () => {
    const db = await throughProxy();
    const slow = failureOf(db.rpc('t_sleep', { p_seconds: 5 }, { idempotent: false }));
    await waitUntilRunning('t_sleep');
    await database.current.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
          and application_name = 'purser'`,
    );
    expect((await slow).code).toBe('dependency_down');
    expect(await db.rpc('t_echo', { p_text: 'on a new one' })).toMatchObject({
      text: 'on a new one',
    });
    proxy.cutAll();
    expect(await db.rpc('t_echo', { p_text: 'and another' })).toMatchObject({
      text: 'and another',
    });
  });
});

async function waitUntilRunning(functionName: string): Promise<void> {
  for (;;) {
    const rows = await database.current.query(
      `select 1 from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()
          and datname = current_database() and query like '%' || $1 || '%'`,
      [functionName],
    );
    if (rows.length > 0) return;
  }
}

describe('bounds', () => {
  it('ends a statement that runs too long, in the server', async () => {
    const error = await failureOf(open().rpc('t_sleep', { p_seconds: 30 }, { timeoutMs: 100 }));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect((error.cause as pg.DatabaseError).code).toBe('57014');
  });

  it('waits for a lock only so long, repeats, and then says so', async () => {
    const holder = new pg.Client({ connectionString: database.current.connectionString });
    await holder.connect();
    try {
      await holder.query('select pg_advisory_lock(42)');
      const db = open({ lockTimeoutMs: 50, retry: { attemptsMax: 2 } });
      const error = await failureOf(db.rpc('t_lock', { p_key: 42 }));
      expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
      expect(error.message).toContain('55P03');
    } finally {
      await holder.end();
    }
  });

  it('answers dependency_down when every connection stays busy', async () => {
    const db = open({ poolMax: 1, acquireTimeoutMs: 100 });
    await db.ping();
    const slow = db.rpc('t_sleep', { p_seconds: 1 });
    const error = await failureOf(db.rpc('t_echo'));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect(error.message).toContain('busy');
    await slow;
  });

  it('closes once however often it is asked, and refuses calls afterwards', async () => {
    const db = open();
    await db.ping();
    await Promise.all([db.close(), db.close()]);
    expect((await failureOf(db.rpc('t_echo'))).code).toBe('dependency_down');
  });
});
