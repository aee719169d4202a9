import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';
import request from 'supertest';
import { type Issuer, startIssuer } from './support/issuer.ts';
import { ADMIN_KEY, BASE_ENV, bearer, SERVICE_KEY, testApp } from './support/testApp.ts';

const HS256_SECRET = 'a-shared-secret-of-an-older-project-0123456789';
const now = () => Math.floor(Date.now() / 1000);

let issuer: Issuer;

beforeAll(async () => {
  issuer = await startIssuer();
});
afterAll(() => issuer.close());

function env(extra: Record<string, string> = {}) {
  return { PURSER_JWT_ISSUER: issuer.issuer, PURSER_JWKS_URL: issuer.url, ...extra };
}

const unsigned = (header: object, claims: object) =>
  `${[header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.`;

const hs256 = (secret: string, claims: object = {}) =>
  new SignJWT({ iss: issuer.issuer, aud: 'authenticated', sub: 'u1', exp: now() + 600, ...claims })
    .setProtectedHeader({ alg: 'HS256', kid: 'ec-1' })
    .sign(new TextEncoder().encode(secret));

describe('access tokens', () => {
  it.each(['ES256', 'RS256'] as const)('lets in a user with a good %s token', async (algorithm) => {
    const { app, calls } = testApp({ env: env() });
    const token = await issuer.sign({ email: 'u1@example.com' }, { algorithm });
    const response = await request(app).get('/api/credits').set(bearer(token)).expect(200);
    expect(response.body.user_id).toBe('u1');
    expect(response.headers['cache-control']).toBe('no-store');
    expect(calls).toContainEqual({
      name: 'ensureUser',
      args: [{ userId: 'u1', email: 'u1@example.com' }],
    });
  });

  const refused: [string, () => Promise<string> | string][] = [
    ['expired', () => issuer.sign({ exp: now() - 60 })],
    ['not yet valid', () => issuer.sign({ nbf: now() + 60 })],
    ['without an end', () => issuer.sign({ exp: undefined as never })],
    ['for another audience', () => issuer.sign({ aud: 'other' })],
    ['of another issuer', () => issuer.sign({ iss: 'https://evil.test/auth/v1' })],
    ['signed with a foreign key', () => issuer.sign({}, { foreignKey: true })],
    ['of an unknown key id', () => issuer.sign({}, { kid: 'made-up' })],
    ['without a user', () => issuer.sign({ sub: undefined as never })],
    ['with an empty user', () => issuer.sign({ sub: '' })],
    ['with a user of control characters', () => issuer.sign({ sub: 'u1\nadmin' })],
    [
      'of algorithm none',
      () =>
        unsigned(
          { alg: 'none' },
          { iss: issuer.issuer, aud: 'authenticated', sub: 'u1', exp: now() + 600 },
        ),
    ],
    ['signed by HS256 with the public key', () => hs256(issuer.publicPem)],
    ['cut short', async () => (await issuer.sign()).slice(0, -4)],
    [
      'changed in its claims',
      async () => {
        const [header, , signature] = (await issuer.sign()).split('.');
        const claims = { iss: issuer.issuer, aud: 'authenticated', sub: 'u2', exp: now() + 600 };
        return [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join(
          '.',
        );
      },
    ],
    ['no token at all', () => 'abc'],
    ['the empty token', () => '..'],
  ];
  it.each(refused)('refuses a token %s with 401', async (_name, make) => {
    const { app, calls } = testApp({ env: env() });
    const response = await request(app)
      .get('/api/credits')
      .set(bearer(await make()))
      .expect(401);
    expect(response.headers['www-authenticate']).toContain('error="invalid_token"');
    expect(response.headers['content-type']).toContain('application/problem+json');
    expect(response.body.code).toBe('unauthenticated');
    expect(calls).toEqual([]);
  });

  it('asks for a token with 401 when none was sent', async () => {
    const { app } = testApp({ env: env() });
    const response = await request(app).get('/api/credits').expect(401);
    expect(response.headers['www-authenticate']).toBe('Bearer realm="purser"');
    expect(response.body.detail).toContain("user's access token");
  });

  it('never takes a wrong token for no token where none is needed', async () => {
    const { app } = testApp({ env: env() });
    const expired = await issuer.sign({ exp: now() - 60 });
    await request(app).get('/api/checkout-session/cs_test_1').expect(200);
    await request(app).get('/api/checkout-session/cs_test_1').set(bearer(expired)).expect(401);
  });

  it('shows the balance of a session to a signed-in user only', async () => {
    const { app, calls } = testApp({ env: env() });
    const token = await issuer.sign();
    const mine = await request(app).get('/api/checkout-session/cs_test_1').set(bearer(token));
    const nobodys = await request(app).get('/api/checkout-session/cs_test_1');
    expect(mine.body.balance).toBe(50);
    expect(nobodys.body.balance).toBeUndefined();
    const asked = calls.filter(({ name }) => name === 'sessionStatus');
    expect(asked.map(({ args }) => args[0])).toEqual([
      { sessionId: 'cs_test_1', userId: 'u1' },
      { sessionId: 'cs_test_1', userId: null },
    ]);
  });

  it('ignores x-user-id beside a token, and says so in the log', async () => {
    const { app, log } = testApp({ env: env() });
    const token = await issuer.sign();
    const response = await request(app)
      .get('/api/credits')
      .set({ ...bearer(token), 'x-user-id': 'u2' })
      .expect(200);
    expect(response.body.user_id).toBe('u1');
    expect(log()).toContain('x-user-id is ignored');
  });

  it('takes a token from the Authorization header only', async () => {
    const { app } = testApp({ env: env() });
    const token = await issuer.sign();
    await request(app).get(`/api/credits?access_token=${token}`).expect(401);
    await request(app).get('/api/credits').set('authorization', `Basic ${token}`).expect(401);
    await request(app).get('/api/credits').set('cookie', `token=${token}`).expect(401);
  });

  it('lets an anonymous sign-in look but not buy', async () => {
    const { app, calls } = testApp({ env: env() });
    const token = await issuer.sign({ is_anonymous: true });
    await request(app).get('/api/credits').set(bearer(token)).expect(200);
    const response = await request(app)
      .post('/api/checkout-session')
      .set(bearer(token))
      .send({ plan: 'pack_50' })
      .expect(403);
    expect(response.body).toMatchObject({ code: 'forbidden' });
    expect(response.body.detail).toContain('Sign up');
    expect(calls.some(({ name }) => name === 'createSession')).toBe(false);
  });
});

describe('admin by token', () => {
  const path = '/api/admin/jobs/webhook-sweep/run';

  it('believes app_metadata.role and never user_metadata', async () => {
    const { app, calls } = testApp({ env: env() });
    const admin = await issuer.sign({ sub: 'boss', app_metadata: { role: 'admin' } });
    await request(app).post(path).set(bearer(admin)).expect(200);
    expect(calls).toEqual([{ name: 'runJob', args: ['webhook-sweep', 'user:boss'] }]);
    for (const claims of [
      { user_metadata: { role: 'admin' } },
      { role: 'admin' },
      { app_metadata: { role: ['admin'] } },
      { app_metadata: 'admin' },
    ]) {
      const token = await issuer.sign(claims);
      await request(app).post(path).set(bearer(token)).expect(403);
    }
  });

  it('answers 403 to a user on a service route, and to a key on a user route', async () => {
    const { app } = testApp({ env: env() });
    const token = await issuer.sign();
    await request(app).get('/api/users/u1/credits').set(bearer(token)).expect(403);
    await request(app).get('/api/credits').set(bearer(SERVICE_KEY)).expect(403);
    await request(app).get('/api/credits').set(bearer(ADMIN_KEY)).expect(403);
  });
});

describe('HS256 tokens', () => {
  it('are accepted with the explicit secret only', async () => {
    const without = testApp({ env: env() });
    await request(without.app)
      .get('/api/credits')
      .set(bearer(await hs256(HS256_SECRET)))
      .expect(401);

    const withSecret = testApp({ env: env({ SUPABASE_JWT_SECRET: HS256_SECRET }) });
    const get = async (token: string) =>
      (await request(withSecret.app).get('/api/credits').set(bearer(token))).status;
    expect(await get(await hs256(HS256_SECRET))).toBe(200);
    expect(await get(await issuer.sign())).toBe(200);
    expect(await get(await hs256(issuer.publicPem))).toBe(401);
    expect(await get(await hs256('another-secret-0123456789'))).toBe(401);
    expect(await get(await hs256(HS256_SECRET, { exp: now() - 60 }))).toBe(401);
    expect(await get(await hs256(HS256_SECRET, { aud: 'other' }))).toBe(401);
    expect(await get(await hs256(HS256_SECRET, { iss: 'https://evil.test' }))).toBe(401);
  });

  it('does not let a service_role key of the same secret pass as a user', async () => {
    const { app } = testApp({ env: env({ SUPABASE_JWT_SECRET: HS256_SECRET }) });
    const key = await new SignJWT({ iss: 'supabase', role: 'service_role', exp: now() + 600 })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(HS256_SECRET));
    await request(app).get('/api/credits').set(bearer(key)).expect(401);
  });
});

describe('an issuer that is away', () => {
  it.each(['error', 'hang-up', 'nonsense'] as const)(
    'is 503 with Retry-After, never 401 or 500 (%s)',
    async (how) => {
      const { app } = testApp({ env: env() });
      const token = await issuer.sign();
      issuer.behave(how);
      const down = await request(app).get('/api/credits').set(bearer(token));
      issuer.behave('well');
      expect(down.status).toBe(503);
      expect(down.body.code).toBe('dependency_down');
      expect(Number(down.headers['retry-after'])).toBeGreaterThan(0);
      await request(app).get('/api/credits').set(bearer(token)).expect(200);
    },
  );

  it('does not matter while its keys are known', async () => {
    const { app } = testApp({ env: env() });
    const token = await issuer.sign();
    await request(app).get('/api/credits').set(bearer(token)).expect(200);
    issuer.behave('hang-up');
    const status = (await request(app).get('/api/credits').set(bearer(token))).status;
    issuer.behave('well');
    expect(status).toBe(200);
  });

  it('is asked once for many made-up key ids', async () => {
    const { app } = testApp({ env: env() });
    await request(app)
      .get('/api/credits')
      .set(bearer(await issuer.sign()))
      .expect(200);
    const before = issuer.requests;
    for (let index = 0; index < 5; index += 1) {
      const token = await issuer.sign({}, { kid: `made-up-${index}` });
      await request(app).get('/api/credits').set(bearer(token)).expect(401);
    }
    expect(issuer.requests).toBe(before);
  });

  it('defaults to the Supabase project', () => {
    const { deps } = testApp({ env: { SUPABASE_URL: 'https://p.supabase.co/', ...BASE_ENV } });
    expect(deps.settings.identity.jwt).toEqual({
      issuer: 'https://p.supabase.co/auth/v1',
      audience: ['authenticated'],
      jwksUrl: 'https://p.supabase.co/auth/v1/.well-known/jwks.json',
    });
  });
});

describe('the first request of a user', () => {
  it('makes the row once per process, also when requests come at once', async () => {
    const { app, calls } = testApp({ env: env() });
    const token = await issuer.sign({ email: 'u1@example.com' });
    const get = () => request(app).get('/api/credits').set(bearer(token)).expect(200);
    await Promise.all([get(), get(), get()]);
    await get();
    expect(calls.filter(({ name }) => name === 'ensureUser')).toHaveLength(1);
  });

  it('tells the database again when the e-mail changed', async () => {
    const { app, calls } = testApp({ env: env() });
    for (const email of ['old@example.com', 'new@example.com', 'new@example.com']) {
      const token = await issuer.sign({ email });
      await request(app).get('/api/credits').set(bearer(token)).expect(200);
    }
    expect(calls.filter(({ name }) => name === 'ensureUser')).toHaveLength(2);
  });

  it('is tried again after it failed', async () => {
    let failures = 1;
    const { app } = testApp({
      env: env(),
      credits: {
        async ensureUser(user) {
          if (failures-- > 0) throw new Error('no connection to db.internal:5432');
          return { user_id: user.userId, email: null, stripe_customer_id: null, created: true };
        },
      },
    });
    const token = await issuer.sign();
    await request(app).get('/api/credits').set(bearer(token)).expect(500);
    await request(app).get('/api/credits').set(bearer(token)).expect(200);
  });
});
