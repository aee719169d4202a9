import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LIMITS } from '../../src/api/rateLimits.ts';
import { routes } from '../../src/api/routes/index.ts';
import { type Issuer, startIssuer } from './support/issuer.ts';
import {
  ADMIN_KEY,
  bearer,
  CRON_SECRET,
  SERVICE_KEY,
  type TestApp,
  testApp,
} from './support/testApp.ts';

/**
 * Every admin route of the table with every kind of credential. A new route is in here without
 * being named; that it answers as it should to the right one is tests/http/routes.test.ts' matter.
 */
const ADMIN_ROUTES = routes
  .map(({ contract }) => contract)
  .filter(({ auth }) => auth === 'admin')
  .map((contract) => [contract.id, contract] as const);

let issuer: Issuer;
let served: TestApp;
let server: Server;
beforeAll(async () => {
  issuer = await startIssuer();
  served = testApp({
    env: {
      PURSER_JWT_ISSUER: issuer.issuer,
      PURSER_JWKS_URL: issuer.url,
      // Each test comes from an address of its own: guesses are counted by address.
      PURSER_TRUST_PROXY: '1',
    },
  });
  server = createServer(served.app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await issuer.close();
});

let addresses = 0;
/** Calls from one address, which nobody else has. */
function caller() {
  addresses += 1;
  const address = `10.0.${addresses >> 8}.${addresses & 255}`;
  return async (method: string, path: string, headers: Record<string, string>) => {
    const { port } = server.address() as AddressInfo;
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method: method.toUpperCase(),
      headers: { 'x-forwarded-for': address, 'content-type': 'application/json', ...headers },
      ...(method === 'get' ? {} : { body: '{}' }),
    });
    const text = await response.text();
    const code = text.startsWith('{') ? (JSON.parse(text) as { code?: string }).code : undefined;
    return { status: response.status, code, headers: response.headers };
  };
}

/** A path that exists as far as its parameters go. */
const pathOf = (path: string) => path.replace(/:\w+/g, 'x1');

type Credentials = [name: string, headers: () => Promise<Record<string, string>>, status: number];

/** Signing costs more than all the rest of a request: each token is made once. */
const tokens = new Map<Credentials[1], Promise<Record<string, string>>>();
function made(headers: Credentials[1]) {
  const known = tokens.get(headers) ?? headers();
  tokens.set(headers, known);
  return known;
}

const REFUSED: Credentials[] = [
  ['none', async () => ({}), 401],
  ['a wrong key', async () => bearer('wrong'), 401],
  ['a key one character off', async () => bearer(`${ADMIN_KEY.slice(0, -1)}x`), 401],
  ['the key under another name', async () => ({ 'x-admin-key': ADMIN_KEY }), 401],
  ['the service key', async () => bearer(SERVICE_KEY), 403],
  ['the cron secret', async () => bearer(CRON_SECRET), 403],
  ['a user', async () => bearer(await issuer.sign()), 403],
  [
    'a user who calls himself admin',
    async () => bearer(await issuer.sign({ user_metadata: { role: 'admin' } })),
    403,
  ],
  [
    'an admin whose token has expired',
    async () => bearer(await issuer.sign({ app_metadata: { role: 'admin' }, exp: 1 })),
    401,
  ],
  [
    'an admin of another issuer',
    async () =>
      bearer(await issuer.sign({ app_metadata: { role: 'admin' } }, { foreignKey: true })),
    401,
  ],
  ['a local user by plain header', async () => ({ 'x-user-id': 'admin' }), 401],
];

const ACCEPTED: Credentials[] = [
  ['the admin key', async () => bearer(ADMIN_KEY), 200],
  ['an admin', async () => bearer(await issuer.sign({ app_metadata: { role: 'admin' } })), 200],
];

it('finds the admin routes in the table', () => {
  expect(ADMIN_ROUTES.length).toBeGreaterThan(20);
  for (const [, { path }] of ADMIN_ROUTES) expect(path).toMatch(/^\/api\/admin\//);
  const others = routes.filter(({ contract }) => contract.auth !== 'admin');
  for (const { contract } of others) expect(contract.path).not.toContain('/admin/');
});

describe.each(ADMIN_ROUTES)('%s', (_id, { method, path }) => {
  it('refuses whoever is no admin, and calls nothing', async () => {
    const call = caller();
    const before = served.calls.length;
    for (const [name, headers, status] of REFUSED) {
      const answer = await call(method, pathOf(path), await made(headers));
      const code = status === 401 ? 'unauthenticated' : 'forbidden';
      expect([name, answer.status, answer.code]).toEqual([name, status, code]);
    }
    expect(served.calls.length).toBe(before);
  });

  it('lets an admin in, by key and by token', async () => {
    const call = caller();
    for (const [name, headers] of ACCEPTED) {
      const { status } = await call(method, pathOf(path), await made(headers));
      // What the request lacks is told only to those who may know.
      const letIn = status < 500 && status !== 401 && status !== 403;
      expect({ name, letIn }).toEqual({ name, letIn: true });
    }
  });
});

it('counts failed sign-ins of an address over all admin routes, and never holds up an admin', async () => {
  const call = caller();
  const paths = ADMIN_ROUTES.filter(([, { method }]) => method === 'get').map(([, { path }]) =>
    pathOf(path),
  );
  for (let guess = 0; guess < LIMITS.wrongKeysPerAddress; guess += 1) {
    const path = paths[guess % paths.length] ?? '';
    expect(await call('get', path, bearer(`guess-${guess}`))).toMatchObject({ status: 401 });
  }
  const refused = await call('get', '/api/admin/audit', bearer('one-more'));
  expect(refused).toMatchObject({ status: 429, code: 'rate_limited' });
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  // Neither by another route nor with a token that is none.
  expect(await call('get', '/api/admin/users', bearer('a.b.c'))).toMatchObject({ status: 429 });
  expect(await call('get', '/api/admin/audit', bearer(ADMIN_KEY))).toMatchObject({ status: 200 });
  expect(await caller()('get', '/api/admin/audit', bearer('x'))).toMatchObject({ status: 401 });
});
