/** What the Database port promises, asked of each adapter with the same words. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Database } from '../../src/core/ports.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import type { RepeatOptions } from '../../src/supabase/repeatCall.ts';
import { createSupabaseDatabase } from '../../src/supabase/supabaseDatabase.ts';
import { type FaultProxy, startFaultProxy } from '../support/faultProxy.ts';
import { clusterUrl, testDatabase } from '../support/postgres.ts';
import { type Postgrest, startPostgrest } from '../support/postgrest.ts';
import { clearNotes, failureOf, notesOf, RPC_FIXTURES } from '../support/rpcFixtures.ts';

const database = testDatabase();
const opened: Database[] = [];
let proxy: FaultProxy;
let postgrest: Postgrest;

beforeAll(async () => {
  await database.current.query(RPC_FIXTURES);
  proxy = await startFaultProxy({ port: Number(new URL(clusterUrl()).port) });
  postgrest = await startPostgrest({ connectionString: database.current.connectionString });
});
afterAll(async () => {
  await Promise.all(opened.map((one) => one.close()));
  await proxy.close();
  await postgrest.stop();
});
beforeEach(() => {
  proxy.setMode('pass');
  postgrest.faults.clear();
});

interface Adapter {
  kind: Database['kind'];
  create(options: RepeatOptions): Database;
  /** The next call commits and its answer is lost. */
  loseAnswer(): void;
}

const ADAPTERS: Adapter[] = [
  {
    kind: 'pg',
    create: (options) =>
      createPgDatabase({
        connectionString: proxy.through(database.current.connectionString),
        poolMax: 1,
        ...options,
      }),
    loseAnswer: () => proxy.setFault('cut_on_answer', 1),
  },
  {
    kind: 'supabase',
    create: (options) =>
      createSupabaseDatabase({ url: postgrest.url, secretKey: postgrest.keys.secret, ...options }),
    loseAnswer: () => postgrest.faults.plan({ kind: 'reset', when: 'after' }),
  },
];

describe.each(ADAPTERS)('the $kind adapter', (adapter) => {
  function open(options: RepeatOptions = {}): Database {
    const opening = adapter.create({ ...options, deps: { random: () => 0.5, ...options.deps } });
    opened.push(opening);
    return opening;
  }

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

    it('passes on no number that would arrive as another', async () => {
      const db = open();
      for (const p_number of [Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, -(2 ** 60)]) {
        expect((await failureOf(db.rpc('t_echo', { p_number }))).code).toBe('internal');
      }
      expect(await db.rpc('t_echo', { p_number: -9007199254740991 })).toMatchObject({
        number: -9007199254740991,
      });
    });

    it('answers in UTC, whatever the database is set to', async () => {
      expect(await open().rpc('t_settings')).toMatchObject({ zone: 'UTC' });
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
      expect(error.message).toContain('P0001');
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
  });

  describe('repeats', () => {
    it.each(['40001', '40P01', '55P03', '57014'])(
      'repeats after %s, which the server has rolled back, even a call that is not idempotent',
      async (state) => {
        await clearNotes(database.current);
        const args = { p_times: 2, p_state: state, p_note: state };
        expect(await open().rpc('t_fail_first', args, { idempotent: false })).toBe(3);
        expect(await notesOf(database.current)).toEqual([state]);
      },
    );

    it('gives up after its bound of attempts and says to come back', async () => {
      await clearNotes(database.current);
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
      await clearNotes(database.current);
      const args = { p_times: 9, p_state: '23505', p_note: 'no' };
      expect((await failureOf(open().rpc('t_fail_first', args))).code).toBe('internal');
      const [row] = await database.current.query('select last_value::int as calls from calls');
      expect(row).toEqual({ calls: 1 });
    });
  });

  describe('an answer that is lost', () => {
    it('is repeated when the call is idempotent', async () => {
      const db = open();
      await db.ping();
      await clearNotes(database.current);
      adapter.loseAnswer();
      expect(await db.rpc('t_note', { p_note: 'twice' })).toEqual({ outcome: 'applied' });
      expect(await notesOf(database.current)).toEqual(['twice', 'twice']);
    });

    it('is reported, not repeated, when the call is not', async () => {
      const db = open();
      await db.ping();
      await clearNotes(database.current);
      adapter.loseAnswer();
      const error = await failureOf(db.rpc('t_note', { p_note: 'once' }, { idempotent: false }));
      expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
      expect(await notesOf(database.current)).toEqual(['once']);
    });
  });

  it('ends a wait for a lock or a long statement, and says to come back', async () => {
    const db = open({ retry: { attemptsMax: 1 } });
    const error = await failureOf(db.rpc('t_sleep', { p_seconds: 2 }, { timeoutMs: 100 }));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect(error.message).toContain('time limit');
  });

  it('closes once however often it is asked, and refuses calls afterwards', async () => {
    const db = open();
    await db.ping();
    await Promise.all([db.close(), db.close()]);
    expect((await failureOf(db.rpc('t_echo'))).code).toBe('dependency_down');
  });
});
