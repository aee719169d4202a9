/**
 * The documented rules of PostgREST and of Supabase's gateway that Purser relies on, one line
 * each. They hold the stand-in to the truth, and run on a real PostgREST where there is one.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { engineName, type Postgrest, startPostgrest } from '../support/postgrest.ts';
import { noteTitle } from '../support/requirements.ts';
import { waitFor } from '../support/stack.ts';

const database = testDatabase();
let api: Postgrest;

const FIXTURES = `
  create type public.r_point as (x int, y int);
  create table public.r_log (id int generated always as identity primary key, note text unique not null);
  grant select, insert on public.r_log to service_role, authenticated;
  grant update on sequence public.r_log_id_seq to service_role;
  create function public.r_add(p_a int, p_b int default 10) returns int
    language sql immutable as 'select p_a + p_b';
  create function public.r_echo(p_json jsonb default '"left out"', p_text text default 'left out')
    returns jsonb language sql immutable as
    $$ select jsonb_build_object('json', p_json, 'text', p_text, 'type', jsonb_typeof(p_json)) $$;
  create function public.r_body(jsonb) returns jsonb language sql immutable as
    $$ select jsonb_build_object('body', $1) $$;
  create function public.r_same(p_x int) returns text language sql immutable as $$ select 'int' $$;
  create function public.r_same(p_x text) returns text language sql immutable as $$ select 'text' $$;
  create function public.r_other(p_x int) returns text language sql immutable as $$ select 'x' $$;
  create function public.r_other(p_y text) returns text language sql immutable as $$ select 'y' $$;
  create function public.r_unnamed(int, int) returns int language sql immutable as 'select $1 + $2';
  create function public.r_list(variadic p_numbers int[]) returns int
    language sql immutable as 'select cardinality(p_numbers)';
  create function public.r_big(p_n bigint) returns jsonb language sql immutable as
    $$ select jsonb_build_object('n', p_n, 'text', p_n::text) $$;
  create function public.r_null() returns int language sql immutable as 'select null::int';
  create function public.r_text() returns text language sql immutable as $$ select 'a "word"' $$;
  create function public.r_point() returns public.r_point language sql immutable as
    'select (1, 2)::public.r_point';
  create function public.r_out(out p_a int, out p_b text) language sql immutable as $$ select 1, 'b' $$;
  create function public.r_rows(p_n int) returns table (n int, sq int) language sql stable as
    'select i, i * i from generate_series(1, p_n) i';
  create function public.r_numbers(p_n int) returns setof int language sql stable as
    'select * from generate_series(1, p_n)';
  create function public.r_array(p_n int) returns jsonb language sql stable as
    'select jsonb_agg(i) from generate_series(1, p_n) i';
  create function public.r_void(p_note text) returns void language sql as
    'insert into public.r_log (note) values (p_note)';
  create function public.r_note(p_note text) returns jsonb language plpgsql as $$
    begin insert into public.r_log (note) values (p_note); return '{"outcome": "applied"}'; end $$;
  create function public.r_stable_write() returns jsonb language plpgsql stable as $$
    begin perform setval('public.r_log_id_seq', 99); return '1'; end $$;
  create function public.r_who() returns jsonb language sql stable as $$
    select jsonb_build_object('role', current_user, 'claims', current_setting('request.jwt.claims')::jsonb,
      'method', current_setting('request.method'), 'path', current_setting('request.path'),
      'search_path', current_setting('search_path'), 'read_only', current_setting('transaction_read_only'),
      'isolation', current_setting('transaction_isolation')) $$;
  create function public.r_who_volatile() returns jsonb language sql volatile as 'select public.r_who()';
  create function public.r_timezone() returns text language sql stable as
    $$ select current_setting('timezone') $$;
  create function public.r_serializable() returns jsonb language sql volatile
    set default_transaction_isolation = 'serializable' as 'select public.r_who()';
  create function public.r_raise(p_state text, p_message text default 'text', p_detail text default '',
                                 p_hint text default '')
    returns jsonb language plpgsql as $$
    begin raise exception using errcode = p_state, message = p_message, detail = p_detail, hint = p_hint; end $$;
  create function public.r_sleep(p_seconds float) returns text language sql as 'select pg_sleep(p_seconds)::text';
  create function public.r_quick(p_seconds float) returns text language sql
    set statement_timeout = '100ms' as 'select pg_sleep(p_seconds)::text';
  create function public.r_closed() returns int language sql as 'select 1';
  revoke all on function public.r_closed() from public;
  create schema r_private;
  create function r_private.hidden() returns int language sql as 'select 1';`;

beforeAll(async () => {
  await database.current.query(FIXTURES);
  api = await startPostgrest({ connectionString: database.current.connectionString });
});
afterAll(() => api?.stop());

interface Sent {
  /** Default: the secret key. */
  key?: string | null;
  /** Default: what the client sends, the key itself. */
  bearer?: string;
  method?: string;
  body?: string | undefined;
  headers?: Record<string, string>;
}

async function send(target: string, sent: Sent = {}) {
  const key = sent.key === undefined ? api.keys.secret : sent.key;
  const bearer = sent.bearer ?? key;
  const response = await fetch(`${api.url}${target}`, {
    method: sent.method ?? 'POST',
    headers: {
      'content-type': 'application/json',
      ...(key === null ? {} : { apikey: key }),
      ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
      ...sent.headers,
    },
    ...(sent.body === undefined ? {} : { body: sent.body }),
  });
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '') && text !== '';
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: json ? JSON.parse(text) : null,
  };
}

const rpc = (name: string, args?: unknown, sent: Sent = {}) =>
  send(`/rest/v1/rpc/${name}`, {
    body: args === undefined ? undefined : typeof args === 'string' ? args : JSON.stringify(args),
    ...sent,
  });

describe('these rules', () => {
  const remedy = 'set POSTGREST_BIN to the path of a PostgREST to hold it to the same rules';
  const title =
    engineName() === 'stand-in'
      ? noteTitle('were asked of the stand-in alone', remedy)
      : 'were asked of a real PostgREST';
  it(title, async () => {
    expect((await rpc('r_add', { p_a: 1 })).status).toBe(200);
  });
});

describe('arguments', () => {
  it.each<[string, string, unknown, unknown]>([
    ['are taken by name', 'r_add', { p_b: 1, p_a: 2 }, 3],
    ['left out take the SQL default', 'r_add', { p_a: 2 }, 12],
    [
      'may all be left out, with an empty object',
      'r_echo',
      {},
      { json: 'left out', text: 'left out', type: 'string' },
    ],
    [
      'may all be left out, with an empty body',
      'r_echo',
      undefined,
      { json: 'left out', text: 'left out', type: 'string' },
    ],
    [
      'that are null are null, not the default',
      'r_echo',
      { p_text: null, p_json: 1 },
      { json: 1, text: null, type: 'number' },
    ],
    [
      'keep the nested JSON of a jsonb',
      'r_echo',
      { p_json: { a: [1, { b: null }] } },
      { json: { a: [1, { b: null }] }, text: 'left out', type: 'object' },
    ],
    [
      'take a JSON string for a bigint',
      'r_big',
      { p_n: '9007199254740993' },
      { n: 9007199254740992, text: '9007199254740993' },
    ],
    [
      'keep all digits of an integer on the way in',
      'r_big',
      '{"p_n": 9007199254740993}',
      { n: 9007199254740992, text: '9007199254740993' },
    ],
    ['of a variadic function are an array', 'r_list', { p_numbers: [4, 5, 6] }, 3],
    [
      'go whole to a single unnamed json parameter',
      'r_body',
      { any: ['thing'] },
      { body: { any: ['thing'] } },
    ],
    ['of an array are those of its first object', 'r_add', [{ p_a: 5 }], 15],
  ])('%s', async (_rule, name, args, expected) => {
    const answer = await rpc(name, args);
    expect(answer).toMatchObject({ status: 200, json: expected });
  });

  it.each([['{"p_a": 1'], ['nonsense'], ['[{"p_a": 1}, {"p_b": 2}]']])(
    'that are no good JSON (%s) are 400 PGRST102',
    async (body) => {
      expect(await rpc('r_add', body)).toMatchObject({ status: 400, json: { code: 'PGRST102' } });
    },
  );

  it.each<[string, unknown]>([
    ['a text for a number', { p_a: 'x' }],
    ['an object for a number', { p_a: { a: 1 } }],
  ])('of the wrong type (%s) are 400 22P02', async (_what, args) => {
    expect(await rpc('r_add', args)).toMatchObject({ status: 400, json: { code: '22P02' } });
  });
});

describe('the function is chosen', () => {
  it('by the names of the arguments among overloads', async () => {
    expect((await rpc('r_other', { p_x: 1 })).json).toBe('x');
    expect((await rpc('r_other', { p_y: 1 })).json).toBe('y');
  });

  it('never by their types: 300 PGRST203 names the candidates', async () => {
    const { status, json } = await rpc('r_same', { p_x: 1 });
    expect(status).toBe(300);
    expect(json.code).toBe('PGRST203');
    expect(json.message).toContain('public.r_same(p_x => integer)');
    expect(json.message).toContain('public.r_same(p_x => text)');
  });

  it.each<[string, string, unknown, string, string]>([
    [
      'an unknown name',
      'r_ad',
      { p_a: 1 },
      'public.r_ad(p_a)',
      'Perhaps you meant to call the function public.r_add',
    ],
    [
      'an unknown argument',
      'r_add',
      { p_a: 1, p_c: 2 },
      'public.r_add(p_a, p_c)',
      'Perhaps you meant to call the function public.r_add(p_a, p_b)',
    ],
    [
      'a missing argument',
      'r_add',
      { p_b: 1 },
      'public.r_add(p_b)',
      'Perhaps you meant to call the function public.r_add(p_a, p_b)',
    ],
  ])('and %s is 404 PGRST202 with a hint', async (_what, name, args, shown, hint) => {
    const keys = Object.keys(args as object);
    expect(await rpc(name, args)).toMatchObject({
      status: 404,
      json: {
        code: 'PGRST202',
        message: `Could not find the function ${shown} in the schema cache`,
        details:
          `Searched for the function public.${name} with parameter${keys.length > 1 ? 's' : ''} ` +
          `${keys.join(', ')} or with a single unnamed json/jsonb parameter, but no matches were ` +
          'found in the schema cache.',
        hint,
      },
    });
  });

  it('not when its parameters have no names', async () => {
    expect(await rpc('r_unnamed', {})).toMatchObject({
      status: 404,
      json: {
        message:
          'Could not find the function public.r_unnamed without parameters in the schema cache',
      },
    });
  });

  it('from exposed schemas only: 406 PGRST106', async () => {
    const headers = { 'content-profile': 'r_private' };
    expect(await rpc('hidden', {}, { headers })).toMatchObject({
      status: 406,
      json: { code: 'PGRST106', message: 'Invalid schema: r_private' },
    });
    expect((await rpc('hidden', {})).json.code).toBe('PGRST202');
  });

  it('from a cache that is read again on `notify pgrst`', async () => {
    await database.current.query(
      `create function public.r_new() returns int language sql as 'select 7'`,
    );
    expect((await rpc('r_new', {})).json.code).toBe('PGRST202');
    await database.current.query(`notify pgrst, 'reload schema'`);
    await waitFor(async () => (await rpc('r_new', {})).json === 7, 'the schema cache');
  });
});

describe('results', () => {
  it.each<[string, string, unknown, string]>([
    ['a number is itself', 'r_add', { p_a: 1, p_b: 1 }, '2'],
    ['a text is a JSON string', 'r_text', {}, '"a \\"word\\""'],
    ['null is null', 'r_null', {}, 'null'],
    ['a composite is an object', 'r_point', {}, '{"x":1,"y":2}'],
    ['out parameters are an object', 'r_out', {}, '{"p_a":1,"p_b":"b"}'],
    ['a table is an array of objects', 'r_rows', { p_n: 1 }, '[{"n":1,"sq":1}]'],
    ['no rows are an empty array', 'r_rows', { p_n: 0 }, '[]'],
    ['a set of scalars is an array of them', 'r_numbers', { p_n: 3 }, '[1,2,3]'],
    ['a jsonb is as it is', 'r_array', { p_n: 2 }, '[1,2]'],
    [
      'a bigint has all its digits',
      'r_big',
      { p_n: '9007199254740993' },
      '{"n":9007199254740993,"text":"9007199254740993"}',
    ],
  ])('%s', async (_rule, name, args, expected) => {
    const { status, text, headers } = await rpc(name, args);
    expect({ status, text: text.replace(/(?<=[:,]) |\n /g, '') }).toEqual({
      status: 200,
      text: expected,
    });
    expect(headers.get('content-type')).toBe('application/json; charset=utf-8');
  });

  it('nothing is 204 without a body', async () => {
    expect(await rpc('r_void', { p_note: 'void' })).toMatchObject({ status: 204, text: '' });
  });

  it('a set is cut at 1,000 rows in silence, one jsonb is not', async () => {
    expect((await rpc('r_rows', { p_n: 1500 })).json).toHaveLength(1000);
    expect((await rpc('r_numbers', { p_n: 1500 })).json).toHaveLength(1000);
    expect((await rpc('r_array', { p_n: 1500 })).json).toHaveLength(1500);
  });
});

describe('SQLSTATE and HTTP status', () => {
  it.each([
    ['PT402', 402],
    ['PT409', 409],
    ['PT422', 422],
    ['P0001', 400],
    ['P0C02', 500],
    ['08006', 503],
    ['09000', 500],
    ['0L000', 403],
    ['0P000', 403],
    ['21000', 500],
    ['22023', 400],
    ['22P05', 400],
    ['23502', 400],
    ['23503', 409],
    ['23505', 409],
    ['23514', 400],
    ['25006', 405],
    ['28000', 403],
    ['2D000', 500],
    ['38000', 500],
    ['39000', 500],
    ['3B000', 500],
    ['40001', 500],
    ['40P01', 500],
    ['42501', 403],
    ['42601', 400],
    ['42883', 404],
    ['42P01', 404],
    ['42P17', 500],
    ['53300', 503],
    ['53400', 500],
    ['54000', 500],
    ['55P03', 500],
    ['57014', 500],
    ['57P01', 503],
    ['58000', 500],
    ['F0000', 500],
    ['HV000', 500],
    ['XX000', 500],
    ['ZZ999', 400],
  ])('%s is %i', async (state, status) => {
    expect(await rpc('r_raise', { p_state: state })).toMatchObject({
      status,
      json: { code: state },
    });
  });

  it('errors carry code, message, details and hint', async () => {
    const raised = {
      p_state: 'PT402',
      p_message: 'insufficient_credits',
      p_detail: '{"balance": 6}',
      p_hint: 'buy',
    };
    const { json, headers } = await rpc('r_raise', raised);
    expect(json).toEqual({
      code: 'PT402',
      message: 'insufficient_credits',
      details: '{"balance": 6}',
      hint: 'buy',
    });
    expect(headers.get('proxy-status')).toBe('PostgREST; error=PT402');
  });

  it('what pg-safeupdate raises is 400', async () => {
    const raised = { p_state: '21000', p_message: 'UPDATE requires a WHERE clause' };
    expect((await rpc('r_raise', raised)).status).toBe(400);
  });

  it('PGRST chooses status, body and headers itself', async () => {
    const answer = await rpc('r_raise', {
      p_state: 'PGRST',
      p_message: '{"code": "mine", "message": "as I say"}',
      p_detail: '{"status": 451, "headers": {"x-why": "because"}}',
    });
    expect(answer).toMatchObject({
      status: 451,
      json: { code: 'mine', message: 'as I say', details: null, hint: null },
    });
    expect(answer.headers.get('x-why')).toBe('because');
  });

  it('a failed call leaves nothing behind', async () => {
    await rpc('r_note', { p_note: 'kept' });
    expect(await rpc('r_note', { p_note: 'kept' })).toMatchObject({
      status: 409,
      json: { code: '23505' },
    });
    const rows = await database.current.query(`select 1 from r_log where note = 'kept'`);
    expect(rows).toHaveLength(1);
  });
});

describe('one transaction', () => {
  it('is read-write for volatile functions, read-only for the others and for GET', async () => {
    expect((await rpc('r_who_volatile', {})).json.read_only).toBe('off');
    expect((await rpc('r_who', {})).json.read_only).toBe('on');
    expect((await rpc('r_who_volatile', undefined, { method: 'GET' })).json.read_only).toBe('on');
  });

  it('answers 405 25006 to a write where it is read-only', async () => {
    const expected = { status: 405, json: { code: '25006' } };
    expect(await rpc('r_stable_write', {})).toMatchObject(expected);
    expect(await send('/rest/v1/rpc/r_note?p_note=get', { method: 'GET' })).toMatchObject(expected);
  });

  it('is read committed unless the function asks for more', async () => {
    expect((await rpc('r_who_volatile', {})).json.isolation).toBe('read committed');
    expect((await rpc('r_serializable', {})).json.isolation).toBe('serializable');
  });

  it('ends at the statement_timeout of the function with 57014', async () => {
    expect(await rpc('r_quick', { p_seconds: 5 })).toMatchObject({
      status: 500,
      json: { code: '57014' },
    });
  });

  it('has the time zone of `Prefer: timezone`', async () => {
    const headers = { prefer: 'timezone=Asia/Tokyo' };
    expect((await rpc('r_timezone', {}, { headers })).json).toBe('Asia/Tokyo');
  });
});

describe('methods and paths', () => {
  it('GET takes its arguments from the query', async () => {
    expect((await send('/rest/v1/rpc/r_add?p_a=1&p_b=2', { method: 'GET' })).json).toBe(3);
  });

  it('GET does not know the single unnamed parameter', async () => {
    const { status, json } = await rpc('r_body', undefined, { method: 'GET' });
    expect(status).toBe(404);
    expect(json.details).not.toContain('unnamed');
  });

  it('HEAD has no body', async () => {
    expect(await rpc('r_who', undefined, { method: 'HEAD' })).toMatchObject({
      status: 200,
      text: '',
    });
  });

  it('other methods on a function are 405 PGRST101', async () => {
    expect(await rpc('r_add', { p_a: 1 }, { method: 'PATCH' })).toMatchObject({
      status: 405,
      json: { code: 'PGRST101' },
    });
  });

  it('a path that is none is 404 PGRST125, one outside the API is the gateway’s 404', async () => {
    expect(await send('/rest/v1/rest/v1/rpc/r_add', { body: '{}' })).toMatchObject({
      status: 404,
      json: { code: 'PGRST125' },
    });
    const outside = await send('/nothing', { body: '{}' });
    expect(outside.status).toBe(404);
    expect(outside.json.code).toBeUndefined();
  });
});

describe('keys, tokens and roles', () => {
  it.each([
    ['secret', 'service_role'],
    ['serviceRole', 'service_role'],
    ['publishable', 'anon'],
    ['anon', 'anon'],
  ] as const)('the %s key acts as %s', async (family, role) => {
    const { json } = await rpc('r_who', {}, { key: api.keys[family] });
    expect(json.role).toBe(role);
    expect(json.claims.role).toBe(role);
  });

  it('a user’s token goes before the key, with its claims', async () => {
    const bearer = await api.sign({ sub: 'u1', role: 'authenticated', email: 'u@example.com' });
    const { json } = await rpc('r_who', {}, { key: api.keys.publishable, bearer });
    expect(json).toMatchObject({
      role: 'authenticated',
      claims: { sub: 'u1', role: 'authenticated', email: 'u@example.com' },
      method: 'POST',
      path: '/rpc/r_who',
    });
  });

  it('a token without a role is anon', async () => {
    const bearer = await api.sign({ sub: 'u1' });
    expect((await rpc('r_who', {}, { bearer })).json.role).toBe('anon');
  });

  it('a lack of rights is 403 with a role and 401 without', async () => {
    expect(await rpc('r_closed', {})).toMatchObject({ status: 403, json: { code: '42501' } });
    const bearer = await api.sign({});
    expect(await rpc('r_closed', {}, { bearer })).toMatchObject({
      status: 401,
      json: { code: '42501' },
    });
  });

  it.each<[string, number, string, () => Promise<string> | string]>([
    ['that has expired', 401, 'PGRST303', () => api.sign({ role: 'authenticated' }, -3600)],
    [
      'of another signer',
      401,
      'PGRST301',
      async () => `${(await api.sign({ role: 'anon' })).slice(0, -4)}AAAA`,
    ],
    ['of two parts', 401, 'PGRST301', () => 'a.b'],
    ['with a role that does not exist', 401, '22023', () => api.sign({ role: 'nobody' })],
    ['with a role the API may not take', 403, '42501', () => api.sign({ role: 'purser_ledger' })],
  ])('a token %s is %i %s', async (_what, status, code, token) => {
    const answer = await rpc('r_who', {}, { bearer: await token() });
    expect(answer).toMatchObject({ status, json: { code } });
  });

  it('the gateway wants a key it knows, and says so without a code', async () => {
    for (const key of [null, 'sb_secret_unknown', 'eyJhbGciOiJIUzI1NiJ9.e30.c2ln']) {
      const { status, json } = await rpc('r_who', {}, { key });
      expect(status).toBe(401);
      expect(json.message).toMatch(/API key/);
      expect(json.code).toBeUndefined();
    }
  });

  it('a secret key is refused to a browser', async () => {
    const headers = { 'user-agent': 'Mozilla/5.0' };
    expect((await rpc('r_who', {}, { headers })).status).toBe(401);
  });
});

describe('limits of a project', () => {
  it('statement_timeout depends on the role, and the gateway gives up by itself', async () => {
    const limited = await startPostgrest({
      connectionString: database.current.connectionString,
      statementTimeoutMs: { authenticated: 100 },
      apiTimeoutMs: 300,
      legacyKeys: false,
      engine: 'stand-in',
    });
    const before = api;
    api = limited;
    try {
      const bearer = await limited.sign({ role: 'authenticated' });
      expect(await rpc('r_sleep', { p_seconds: 5 }, { bearer })).toMatchObject({
        status: 500,
        json: { code: '57014' },
      });
      expect((await rpc('r_sleep', { p_seconds: 1 })).status).toBe(504);
      expect(await rpc('r_who', {}, { key: limited.keys.serviceRole })).toMatchObject({
        status: 401,
        json: { message: 'Legacy API keys are disabled' },
      });
    } finally {
      api = before;
      await limited.stop();
    }
  });
});
