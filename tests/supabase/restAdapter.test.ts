/** The supabase-js adapter beyond the port: what a gateway, a network and wrong settings do to it. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Database } from '../../src/core/ports.ts';
import {
  createSupabaseDatabase,
  type SupabaseDatabaseOptions,
} from '../../src/supabase/supabaseDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { type Postgrest, startPostgrest } from '../support/postgrest.ts';
import type { FaultKind } from '../support/postgrestFaults.ts';
import { signJwt } from '../support/postgrestTokens.ts';
import { clearNotes, failureOf, notesOf, RPC_FIXTURES } from '../support/rpcFixtures.ts';
import { concurrently, countBy } from '../support/sqlCall.ts';
import { waitFor } from '../support/stack.ts';

const database = testDatabase();
const opened: Database[] = [];
const servers: Server[] = [];
let api: Postgrest;

beforeAll(async () => {
  await database.current.query(RPC_FIXTURES);
  api = await startPostgrest({ connectionString: database.current.connectionString });
});
afterAll(async () => {
  await Promise.all(opened.map((one) => one.close()));
  for (const server of servers) server.closeAllConnections();
  await Promise.all(servers.map((one) => new Promise((resolve) => one.close(resolve))));
  await api.stop();
});
beforeEach(async () => {
  api.faults.clear();
  await clearNotes(database.current);
});

function open(options: Partial<SupabaseDatabaseOptions> = {}): Database {
  const opening = createSupabaseDatabase({
    url: api.url,
    secretKey: api.keys.secret,
    ...options,
    deps: { sleep: async () => undefined, ...options.deps },
  });
  opened.push(opening);
  return opening;
}

/** The address of a server that is not a Supabase project. */
async function somebodyElse(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** How a call fails as soon as the schema cache knows its function. */
function onceKnown(call: () => Promise<unknown>) {
  return waitFor(async () => {
    const error = await failureOf(call());
    return /^The database lacks/.test(error.message) ? null : error;
  }, 'the schema cache');
}

describe('the way to the project', () => {
  it.each([
    ['the secret key', 'secret'],
    ['the legacy service_role key', 'serviceRole'],
  ] as const)('opens with %s', async (_what, family) => {
    const db = open({ secretKey: api.keys[family] });
    expect(await db.rpc('t_echo', { p_text: family })).toMatchObject({ text: family });
    await db.ping();
  });

  it('forgives slashes, blanks and newlines around address and key', async () => {
    const db = open({ url: ` ${api.url}/\n`, secretKey: `${api.keys.secret}\n` });
    expect(await db.rpc('t_echo', { p_text: 'trimmed' })).toMatchObject({ text: 'trimmed' });
  });

  it('uses the fetch it is given, with both headers and nothing but POST /rpc', async () => {
    const seen: Request[] = [];
    const db = open({
      fetch: (input, init) => {
        seen.push(new Request(input as string, init));
        return fetch(input, init);
      },
    });
    await db.rpc('t_echo', { p_text: 'a', p_json: undefined });
    expect(seen).toHaveLength(1);
    const [request] = seen;
    expect(`${request?.method} ${request?.url}`).toBe(`POST ${api.url}/rest/v1/rpc/t_echo`);
    expect(request?.headers.get('apikey')).toBe(api.keys.secret);
    expect(request?.headers.get('authorization')).toBe(`Bearer ${api.keys.secret}`);
    expect(await request?.text()).toBe('{"p_text":"a"}');
  });

  it('is asked by a ping that does not need the migration', async () => {
    const url = await somebodyElse((_request, response) => {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end('{"code":"PGRST202","message":"none","details":null,"hint":null}');
    });
    await open({ url }).ping();
  });
});

describe('faults on the way', () => {
  const faults: [FaultKind, string][] = [
    ['reset', 'no connection'],
    ['html_502', 'HTTP 502: 502 Bad Gateway'],
    ['html_503', 'HTTP 503: 503 Service Temporarily Unavailable'],
    ['cloudflare_522', 'HTTP 522: project | 522: Connection timed out'],
    ['pgrst_503', 'HTTP 503 PGRST002'],
    ['rate_limit_429', 'HTTP 429: API rate limit exceeded'],
  ];

  it.each(faults)('a %s is repeated until it passes', async (kind) => {
    api.faults.plan({ kind, when: 'before', times: 2 });
    expect(await open().rpc('t_note', { p_note: kind })).toEqual({ outcome: 'applied' });
    expect(await notesOf(database.current)).toEqual([kind]);
  });

  it.each(faults)('a %s that stays ends as dependency_down in few words', async (kind, words) => {
    api.faults.plan({ kind, when: 'before', times: 99 });
    const before = api.faults.happened.length;
    const error = await failureOf(open().rpc('t_note', { p_note: kind }));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect(error.message).toContain(words);
    expect(error.message.length).toBeLessThan(400);
    expect(error.message).not.toMatch(/<|sb_secret_/);
    expect(api.faults.happened.length - before).toBe(5);
  });

  it.each([
    ['reset', 1],
    ['half_answer', 1],
    ['html_502', 1],
    ['cloudflare_522', 1],
  ] as const)(
    'a %s leaves a call in doubt: not repeated unless idempotent',
    async (kind, calls) => {
      const once = { idempotent: false };
      api.faults.plan({ kind, when: 'after' });
      const error = await failureOf(open().rpc('t_note', { p_note: 'once' }, once));
      expect(error.code).toBe('dependency_down');
      expect(await notesOf(database.current)).toHaveLength(calls);
      api.faults.plan({ kind, when: 'after' });
      expect(await open().rpc('t_note', { p_note: 'again' })).toEqual({ outcome: 'applied' });
      expect(await notesOf(database.current)).toEqual(['once', 'again', 'again']);
    },
  );

  it.each(['pgrst_503', 'rate_limit_429'] as const)(
    'a %s did nothing, so that every call is repeated',
    async (kind) => {
      api.faults.plan({ kind, when: 'before' });
      const once = { idempotent: false };
      expect(await open().rpc('t_note', { p_note: kind }, once)).toEqual({ outcome: 'applied' });
      expect(await notesOf(database.current)).toEqual([kind]);
    },
  );

  it('a refused connection did nothing either', async () => {
    const url = await somebodyElse(() => undefined);
    const server = servers.pop() as Server;
    await new Promise((resolve) => server.close(resolve));
    let attempts = 0;
    const db = open({
      url,
      fetch: (input, init) => {
        attempts += 1;
        return fetch(input, init);
      },
    });
    const error = await failureOf(db.rpc('t_note', { p_note: 'x' }, { idempotent: false }));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect(attempts).toBe(5);
    await expect(db.ping()).rejects.toMatchObject({ code: 'dependency_down' });
  });

  it('silence ends at the time limit of one attempt, and the repeat is answered', async () => {
    api.faults.plan({ kind: 'silence', when: 'after' });
    const db = open();
    const answer = db.rpc('t_note', { p_note: 'silence' }, { timeoutMs: 300 });
    expect(await answer).toEqual({ outcome: 'applied' });
    expect(await notesOf(database.current)).toEqual(['silence', 'silence']);
    api.faults.plan({ kind: 'silence', when: 'before', times: 9 });
    await expect(db.ping(50)).rejects.toMatchObject({ code: 'dependency_down' });
  });

  it('loses, doubles and mis-answers nothing in 240 in-doubt operations', async () => {
    const db = open({ retry: { attemptsMax: 12 } });
    const users = 6;
    await concurrently(users, (user) => db.rpc('ensure_user', { p_user_id: `doubt-${user}` }));
    await concurrently(users, (user) =>
      db.rpc('grant_credits', {
        p_user_id: `doubt-${user}`,
        p_type: 'bonus',
        p_key: 'grant:start',
        p_lots: [{ credits: 1000, paid: false }],
      }),
    );
    const kinds: FaultKind[] = ['reset', 'half_answer', 'html_502', 'cloudflare_522'];
    for (const kind of kinds) {
      api.faults.plan({ kind, when: 'after', times: 60, functions: /^consume_credits$/ });
    }
    const before = api.faults.happened.length;
    const answers = await concurrently(240, (index) =>
      db.rpc<{ outcome: string; amount: number }>('consume_credits', {
        p_user_id: `doubt-${index % users}`,
        p_amount: 1 + (index % 3),
        p_key: `consume:${index}`,
      }),
    );
    const doubtful = api.faults.happened.slice(before).filter((fault) => fault.committed);
    expect(doubtful.length).toBe(240);
    const outcomes = countBy(answers.map(({ outcome }) => outcome));
    expect((outcomes.applied ?? 0) + (outcomes.replayed ?? 0)).toBe(240);
    expect(outcomes.replayed).toBeGreaterThanOrEqual(100);
    for (let user = 0; user < users; user += 1) {
      const { balance } = await db.rpc<{ balance: number }>('get_credit_balance', {
        p_user_id: `doubt-${user}`,
      });
      const spent = Array.from({ length: 240 }, (_, index) => index)
        .filter((index) => index % users === user)
        .reduce((sum, index) => sum + 1 + (index % 3), 0);
      expect(balance).toBe(1000 - spent);
    }
    expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
      [],
    );
  });
});

describe('a refusal of the key', () => {
  const jwt = (claims: Record<string, unknown>, seconds?: number) =>
    signJwt('a-foreign-secret-of-32-characters', claims, seconds);

  it.each<[string, () => string | Promise<string>, RegExp]>([
    ['a publishable key', () => api.keys.publishable, /publishable key/],
    ['the anon key', () => api.keys.anon, /is the anon key instead of the service_role key/],
    ['an expired key', () => jwt({ role: 'service_role' }, -60), /expired/],
    ['a personal access token', () => 'sbp_0123456789abcdef', /of the Supabase account/],
    ['something else', () => 'super-secret-jwt-secret', /neither a secret key/],
    ['a key with a newline in it', () => 'sb_secret_a\nb', /newline/],
    ['no key', () => '', /is empty/],
  ])('%s is named before anything is sent, and not shown', async (_what, key, words) => {
    const secretKey = await key();
    const create = () => createSupabaseDatabase({ url: api.url, secretKey });
    expect(create).toThrow(words);
    expect(create).toThrow(/^SUPABASE_SECRET_KEY /);
    if (secretKey !== '') expect(create).not.toThrow(secretKey);
  });

  it('names both projects when key and address differ', async () => {
    const ref = 'abcdefghijklmnopqrst';
    const secretKey = await jwt({ role: 'service_role', ref });
    const url = 'https://tsrqponmlkjihgfedcba.supabase.co';
    expect(() => createSupabaseDatabase({ url, secretKey })).toThrow(
      `belongs to the project ${ref}, but SUPABASE_URL names tsrqponmlkjihgfedcba`,
    );
  });

  it.each<[string, () => string | Promise<string>]>([
    ['an unknown secret key', () => 'sb_secret_of_another_project'],
    ['a service_role key of another project', () => jwt({ role: 'service_role' }, 3600)],
  ])('%s is dependency_down, never unauthenticated, and asked for once', async (_what, key) => {
    const before = api.requests;
    const secretKey = await key();
    const error = await failureOf(open({ secretKey }).rpc('t_echo'));
    expect(error.code).toBe('dependency_down');
    expect(error.retryAfterSeconds).toBeUndefined();
    expect(error.message).toMatch(
      /SUPABASE_SECRET_KEY.*HTTP 401.*another project.*switched those off/,
    );
    expect(error.message).not.toContain(secretKey);
    expect(api.requests).toBe(before);
  });

  it('a switched-off legacy key is said to be one', async () => {
    const modern = await startPostgrest({
      connectionString: database.current.connectionString,
      legacyKeys: false,
    });
    try {
      const db = open({ url: modern.url, secretKey: modern.keys.serviceRole });
      const error = await failureOf(db.rpc('t_echo'));
      expect(error.message).toMatch(/Legacy API keys are disabled/);
    } finally {
      await modern.stop();
    }
  });

  it('a missing right points at the migration', async () => {
    await database.current.query(
      `create function public.t_closed() returns jsonb language sql as $$ select '1'::jsonb $$;
       revoke all on function public.t_closed() from public; notify pgrst`,
    );
    const db = open();
    const error = await onceKnown(() => db.rpc('t_closed'));
    expect(error.code).toBe('dependency_down');
    expect(error.message).toMatch(/SUPABASE_SECRET_KEY.*42501.*npm run migrate/);
  });
});

describe('a wrong address', () => {
  it.each([
    [
      'https://p.supabase.co/rest/v1',
      /ends with \/rest\/v1.*Set it to https:\/\/p\.supabase\.co\./,
    ],
    ['https://p.supabase.co/rest/v1/', /ends with \/rest\/v1/],
    [
      'https://supabase.com/dashboard/project/abcdefghijklmnopqrst/settings',
      /dashboard.*abcdefghijklmnopqrst\.supabase\.co/,
    ],
    ['https://db.abc.supabase.co', /Postgres itself/],
    ['postgresql://postgres:pw@db.abc.supabase.co:5432/postgres', /not an http/],
    ['p.supabase.co', /not an http/],
  ])('%s is named with the right one', (url, words) => {
    const create = () => createSupabaseDatabase({ url, secretKey: 'sb_secret_x' });
    expect(create).toThrow(words);
    expect(create).toThrow(/^SUPABASE_URL /);
  });

  it.each<[string, number, Record<string, string>, string, RegExp]>([
    [
      'a page',
      200,
      { 'content-type': 'text/html' },
      '<html><title>My app</title></html>',
      /does not lead to the Data API.*HTTP 200, My app/,
    ],
    [
      'a page that is not there',
      404,
      { 'content-type': 'text/html' },
      '<html><title>404</title></html>',
      /does not lead to/,
    ],
    ['an empty 404', 404, {}, '', /does not lead to/],
    [
      'a redirect',
      308,
      { location: 'https://elsewhere.example/' },
      '',
      /does not lead to.*HTTP 308/,
    ],
    ['a paused project', 540, {}, '', /paused/],
    [
      'a quota',
      402,
      { 'content-type': 'application/json' },
      '{"message":"exceed_egress_quota"}',
      /HTTP 402, exceed_egress_quota/,
    ],
  ])(
    'answered by %s is dependency_down, and not repeated',
    async (_what, status, headers, body, words) => {
      let calls = 0;
      const url = await somebodyElse((request, response) => {
        calls += 1;
        request.resume();
        response.writeHead(status, headers).end(body);
      });
      const error = await failureOf(open({ url }).rpc('t_echo'));
      expect(error.code).toBe('dependency_down');
      expect(error.message).toMatch(words);
      expect(calls).toBe(1);
    },
  );

  it('that echoes the key does not make us show it', async () => {
    const url = await somebodyElse((request, response) => {
      response.writeHead(500, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ message: `bad key ${request.headers.apikey}` }));
    });
    const error = await failureOf(open({ url }).rpc('t_echo'));
    expect(error.message).toContain('bad key [key]');
  });
});

describe('a function that is there twice', () => {
  it('is told as what it is: one of another version was left behind', async () => {
    await database.current.query(
      `create function public.t_twice(p_x int) returns jsonb language sql as $$ select '1'::jsonb $$;
       create function public.t_twice(p_x text) returns jsonb language sql as $$ select '2'::jsonb $$;
       notify pgrst`,
    );
    const db = open();
    const error = await onceKnown(() => db.rpc('t_twice', { p_x: 1 }));
    expect(error.code).toBe('dependency_down');
    expect(error.message).toMatch(/more than one t_twice\(\)/);
  });
});

describe('bounds', () => {
  it('runs so many calls at once and no more', async () => {
    let running = 0;
    let most = 0;
    const db = open({
      concurrencyMax: 3,
      fetch: async (input, init) => {
        running += 1;
        most = Math.max(most, running);
        const response = await fetch(input, init);
        running -= 1;
        return response;
      },
    });
    await concurrently(20, (index) => db.rpc('t_echo', { p_number: index }));
    expect(most).toBe(3);
  });

  it('refuses who would wait too long, and whoever comes after a thousand waiting', async () => {
    api.faults.plan({ kind: 'silence', when: 'before' });
    const db = open({ concurrencyMax: 1, acquireTimeoutMs: 200, retry: { attemptsMax: 1 } });
    const stuck = failureOf(db.rpc('t_echo', {}, { timeoutMs: 1_000 }));
    const waiting = concurrently(1_001, () => failureOf(db.rpc('t_echo')));
    const reasons = countBy((await waiting).map((error) => error.code));
    expect(reasons).toEqual({ dependency_down: 1_000, overloaded: 1 });
    await stuck;
  });

  it('close waits for the calls under way', async () => {
    let answered = false;
    const db = open({
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        answered = true;
        return response;
      },
    });
    const call = db.rpc('t_sleep', { p_seconds: 0.3 });
    await new Promise((resolve) => setImmediate(resolve));
    await db.close();
    expect(answered).toBe(true);
    await call;
  });
});
