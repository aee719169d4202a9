/**
 * A start beside parts that are away, empty or refuse their key: the server lives, its log says
 * what is wrong and what to do, /readyz tells it to whoever asks, and it heals by itself.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { FILE_FUNCTIONS } from '../../src/compose/schema.ts';
import { SQL_FILES } from '../../src/generated/sql.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { migrate } from '../../src/supabase/migrate.ts';
import { AREA_FILES } from '../../src/supabase/migrations.ts';
import { startFaultProxy } from '../support/faultProxy.ts';
import { createTestDatabase, type TestDatabase, testDatabase } from '../support/postgres.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const THREE_WAYS = /npm run migrate.*paste the files of sql\/.*copy them to supabase\/migrations/s;

const database = testDatabase();
const left: (() => Promise<void>)[] = [];
let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox();
});
afterAll(() => sandbox.stop());
afterEach(async () => {
  for (const stop of left.splice(0).reverse()) await stop();
});

async function start(options: Partial<Parameters<typeof startStack>[0]> = {}): Promise<Stack> {
  const { connectionString } = database.current;
  const stack = await startStack({ connectionString, sandbox, ...options });
  left.push(stack.stop);
  return stack;
}

/** Where nobody listens. */
async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const told = ({ logs }: Stack, level: 'error' | 'warn' | 'info') =>
  logs.filter((line) => line.level === level).map((line) => line.message);

async function emptyDatabase(): Promise<TestDatabase> {
  const empty = await createTestDatabase({ template: 'template0' });
  left.push(empty.drop);
  return empty;
}

it('says nothing of parts that are well', async () => {
  const stack = await start();
  expect([...told(stack, 'error'), ...told(stack, 'warn')]).toEqual([]);
});

it('names a database that is away, serves, and takes up its work when it comes', async () => {
  const { connectionString } = database.current;
  const proxy = await startFaultProxy({ port: Number(new URL(connectionString).port) });
  left.push(proxy.close);
  proxy.setMode('refuse');
  const stack = await start({ connectionString: proxy.through(connectionString) });
  expect(told(stack, 'error')).toEqual([
    expect.stringMatching(
      /The database is not ready: .*Check the host and port in DATABASE_URL.*\/readyz/,
    ),
  ]);
  expect((await stack.call('GET', '/healthz')).status).toBe(200);
  const readyz = await stack.call('GET', '/readyz');
  expect(readyz).toMatchObject({ status: 503, body: { code: 'dependency_down' } });
  const question = { bearer: SERVICE_KEY, body: { user_id: 'u', amount: 1 } };
  const check = await stack.call('POST', '/api/credits/check', question);
  expect(check.status).toBe(503);
  expect(check.headers.get('retry-after')).not.toBeNull();

  proxy.setMode('pass');
  await waitFor(() => told(stack, 'info').includes('The database is ready now.'), 'the database');
  expect((await stack.call('GET', '/readyz')).status).toBe(200);
  await waitFor(async () => {
    const [row] = await database.current.query<{ count: number }>(
      `select count(*)::int from scheduled_jobs where last_finished_at is not null`,
    );
    return (row?.count ?? 0) > 0;
  }, 'the first job');
  // One line for the whole time it was away.
  expect(told(stack, 'error').filter((line) => line.includes('not ready'))).toHaveLength(1);
});

it('is not kept from starting by a database that never answers', async () => {
  const { connectionString } = database.current;
  const proxy = await startFaultProxy({ port: Number(new URL(connectionString).port) });
  left.push(proxy.close);
  proxy.setMode('black_hole');
  const stack = await start({ connectionString: proxy.through(connectionString) });
  expect(told(stack, 'error')).toEqual([expect.stringContaining('The database is not ready')]);
  expect((await stack.call('GET', '/healthz')).status).toBe(200);
  proxy.cutAll();
});

it.each([
  [
    'a wrong password',
    (url: URL) => {
      url.password = 'wrong';
    },
    /refuses Purser \(28P01\).*Check the user, password and database in DATABASE_URL/,
  ],
  [
    'a database that does not exist',
    (url: URL) => {
      url.pathname = '/nowhere';
    },
    /refuses Purser \(3D000\).*DATABASE_URL/,
  ],
  [
    'a host nobody knows',
    (url: URL) => {
      url.hostname = 'purser.invalid';
    },
    /purser\.invalid.*host and port in DATABASE_URL/,
  ],
])('names %s', async (_what, spoil, expected) => {
  const url = new URL(database.current.connectionString);
  spoil(url);
  const stack = await start({ connectionString: url.toString() });
  expect(told(stack, 'error')).toEqual([expect.stringMatching(expected)]);
  expect(told(stack, 'error').join()).not.toContain('wrong@');
});

it('names a missing migration with the three ways to apply it, and goes on after it', async () => {
  const empty = await emptyDatabase();
  const stack = await start({ connectionString: empty.connectionString });
  expect(told(stack, 'error')).toEqual([expect.stringMatching(THREE_WAYS)]);
  const readyz = await stack.call('GET', '/readyz');
  expect(readyz.status).toBe(503);
  expect(readyz.body.detail).toMatch(THREE_WAYS);
  expect(readyz.body.checks).toMatchObject({ database: 'ok' });

  await migrate({ connectionString: empty.connectionString });
  await waitFor(() => told(stack, 'info').includes('The database is ready now.'), 'the schema');
  expect((await stack.call('GET', '/readyz')).status).toBe(200);
});

it('names a schema that is older than the code', async () => {
  const old = await createTestDatabase();
  left.push(old.drop);
  await old.query(
    `create or replace function public.purser_schema_version(p_files jsonb default '{}') returns jsonb language sql stable
     as $$ select jsonb_build_object('version', 0, 'ledger', purser.ledger_id()) $$`,
  );
  const stack = await start({ connectionString: old.connectionString });
  const [message] = told(stack, 'error');
  expect(message).toMatch(/has schema version 0, this version of Purser needs \d+/);
  expect(message).toMatch(THREE_WAYS);
  expect((await stack.call('GET', '/readyz')).body.detail).toMatch(THREE_WAYS);
});

it('names the files of sql/ whose functions are not there', async () => {
  const partly = await createTestDatabase();
  left.push(partly.drop);
  await partly.query('drop function public.set_payment_state, public.hold_credits');
  const stack = await start({ connectionString: partly.connectionString });
  expect(told(stack, 'error')).toEqual([
    expect.stringContaining(
      'What credit_holds_migration.sql, payments_migration.sql makes is not there.',
    ),
  ]);
  expect((await stack.call('GET', '/readyz')).status).toBe(503);
});

it('knows a function of each file of sql/ that makes any for callers', () => {
  const files = AREA_FILES.filter((name) =>
    SQL_FILES[name]?.includes('create or replace function public.'),
  );
  expect(Object.keys(FILE_FUNCTIONS)).toEqual(files);
  for (const [file, name] of Object.entries(FILE_FUNCTIONS)) {
    expect(SQL_FILES[file]).toContain(`create or replace function public.${name}(`);
  }
});

it('names the Supabase key that the project refuses', async () => {
  const stack = await start({
    adapter: 'supabase',
    env: { SUPABASE_SECRET_KEY: 'sb_secret_of_another_project' },
  });
  const [message] = told(stack, 'error');
  expect(message).toMatch(/Supabase refuses SUPABASE_SECRET_KEY.*another project/);
  expect(message).not.toContain('sb_secret_of');
  expect((await stack.call('GET', '/readyz')).status).toBe(503);
});

it('names a missing migration over the Data API too', async () => {
  const empty = await emptyDatabase();
  // The roles without which there is no Data API at all.
  await empty.query(`grant usage on schema public to anon, authenticated, service_role`);
  const stack = await start({ adapter: 'supabase', connectionString: empty.connectionString });
  expect(told(stack, 'error')).toEqual([expect.stringMatching(THREE_WAYS)]);
  expect((await stack.call('GET', '/readyz')).body.detail).toMatch(THREE_WAYS);
});

it('warns of a Redis that is away, under the name of its setting, and answers from the ledger', async () => {
  const port = await closedPort();
  const cases: [Record<string, string>, RegExp][] = [
    [{ REDIS_URL: `redis://127.0.0.1:${port}` }, /Redis is not ready: .*REDIS_URL/],
    [
      {
        UPSTASH_REDIS_REST_URL: `http://127.0.0.1:${port}`,
        UPSTASH_REDIS_REST_TOKEN: 'token0123456789',
      },
      /Redis is not ready: .*UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN/,
    ],
  ];
  for (const [env, expected] of cases) {
    const stack = await start({ env });
    expect(told(stack, 'error')).toEqual([]);
    expect(told(stack, 'warn')).toEqual(expect.arrayContaining([expect.stringMatching(expected)]));
    const readyz = await stack.call('GET', '/readyz');
    expect(readyz).toMatchObject({ status: 200, body: { checks: { redis: 'degraded' } } });
    await stack.call('PUT', '/api/users/redisless', {
      bearer: SERVICE_KEY,
      body: { email: 'r@example.com' },
    });
    const { body } = await stack.call('POST', '/api/credits/check', {
      bearer: SERVICE_KEY,
      body: { user_id: 'redisless', amount: 1 },
    });
    expect(body).toMatchObject({ allowed: false, source: 'ledger' });
  }
});

it('warns of a token that Upstash refuses', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: 'WRONGPASS invalid or missing auth token' }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  left.push(() => new Promise((resolve) => server.close(() => resolve())));
  const { port } = server.address() as AddressInfo;
  const stack = await start({
    env: {
      UPSTASH_REDIS_REST_URL: `http://127.0.0.1:${port}`,
      UPSTASH_REDIS_REST_TOKEN: 'token0123456789',
    },
  });
  const message = told(stack, 'warn').find((line) => line.startsWith('Redis is not ready'));
  expect(message).toMatch(/WRONGPASS.*UPSTASH_REDIS_REST_TOKEN/);
  expect(message).not.toContain('token0123456789');
  server.closeAllConnections();
});

it('warns of a key that Stripe refuses, and answers 503 where prices are asked', async () => {
  const stack = await start({ env: { STRIPE_SECRET_KEY: 'sk_test_of_another_account' } });
  expect(told(stack, 'warn')).toEqual([
    expect.stringMatching(/Stripe is not ready: Stripe refuses our key: .*STRIPE_SECRET_KEY/),
  ]);
  expect(told(stack, 'warn').join()).not.toContain('sk_test_of_another_account');
  expect((await stack.call('GET', '/api/pricing')).status).toBe(503);
  expect((await stack.call('GET', '/readyz')).status).toBe(200);
});
