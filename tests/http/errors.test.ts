import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { ERRORS, type ErrorCode, PurserError } from '../../src/core/errors.ts';
import { bearer, CRON_SECRET, PUBLIC_URL, SERVICE_KEY, testApp } from './support/testApp.ts';

const SECRET = 'sk_test_51HsecretSecretSecret';

function failing(error: unknown) {
  return testApp({
    credits: {
      async balance() {
        throw error;
      },
    },
  });
}
const read = (app: Parameters<typeof request>[0]) =>
  request(app).get('/api/users/u1/credits?').set(bearer(SERVICE_KEY));

describe('problem documents', () => {
  it.each(Object.keys(ERRORS) as ErrorCode[])(
    '%s is answered as the contract says',
    async (code) => {
      const { app } = failing(
        new PurserError(code, {
          detail: 'What to do.',
          extensions: { balance: 3, status: 200, code: 'forged', request_id: 'forged' },
        }),
      );
      const response = await read(app).set('x-request-id', 'request-0001');
      const { status, title } = ERRORS[code];
      expect(response.status).toBe(status);
      expect(response.headers['content-type']).toBe('application/problem+json; charset=utf-8');
      expect(response.headers['cache-control']).toBe('no-store');
      expect(response.body).toEqual({
        type: `${PUBLIC_URL}/problems/${code}`,
        title,
        status,
        code,
        ...(code === 'internal' ? {} : { detail: 'What to do.', balance: 3 }),
        instance: '/api/users/u1/credits',
        request_id: 'request-0001',
      });
      const mayRetry = status === 503 || status === 429;
      expect(response.headers['retry-after'] !== undefined).toBe(mayRetry);
      expect(response.headers['www-authenticate'] !== undefined).toBe(status === 401);
    },
  );

  it('rounds Retry-After up to whole seconds, at least one', async () => {
    const down = (retryAfterSeconds: number) =>
      read(failing(new PurserError('dependency_down', { detail: 'x', retryAfterSeconds })).app);
    expect((await down(2.2)).headers['retry-after']).toBe('3');
    expect((await down(0)).headers['retry-after']).toBe('1');
  });

  it('says nothing about a defect, and logs all but the secrets in it', async () => {
    const cause = new Error(`select * from users where email = 'anna@example.com'`);
    const { app, log } = failing(new Error(`boom ${SECRET}`, { cause }));
    const response = await read(app).expect(500);
    expect(response.body).toEqual({
      type: `${PUBLIC_URL}/problems/internal`,
      title: 'Internal error',
      status: 500,
      code: 'internal',
      instance: '/api/users/u1/credits',
      request_id: response.headers['x-request-id'],
    });
    expect(log()).toContain(String(response.headers['x-request-id']));
    expect(log()).toContain('select * from users');
    expect(log()).not.toContain('SecretSecret');
    expect(log()).not.toContain('anna@');
  });

  it.each([['text'], [null], [undefined], [{ status: 200 }], [{ status: 418, message: SECRET }]])(
    'takes a thrown %p for a defect',
    async (thrown) => {
      const response = await read(failing(thrown).app).expect(500);
      expect(response.body.code).toBe('internal');
      expect(response.text).not.toContain(SECRET);
    },
  );

  it('does not repeat the query in instance', async () => {
    const { app } = testApp();
    const response = await request(app).get(`/api/nowhere?key=${SECRET}`).expect(404);
    expect(response.body.instance).toBe('/api/nowhere');
    expect(response.text).not.toContain(SECRET);
  });
});

describe('paths and methods', () => {
  it.each([
    ['delete', '/api/credits', 'GET, HEAD'],
    ['post', '/api/credits', 'GET, HEAD'],
    ['get', '/api/credits/consume', 'POST'],
    ['get', '/api/users/u1', 'PUT'],
    ['patch', '/api/users/u1', 'PUT'],
    ['get', '/api/webhooks/stripe', 'POST'],
    ['trace', '/api/pricing', 'GET, HEAD'],
  ] as const)('%s %s is 405 with Allow: %s', async (method, path, allow) => {
    const { app, calls } = testApp();
    const response = await request(app)[method](path).expect(405);
    expect(response.headers.allow).toBe(allow);
    expect(response.body.code).toBe('method_not_allowed');
    expect(calls).toEqual([]);
  });

  it('answers OPTIONS with the methods there are', async () => {
    const { app } = testApp();
    const response = await request(app).options('/api/credits').expect(204);
    expect(response.headers.allow).toBe('GET, HEAD');
  });

  it('ignores a method override', async () => {
    const { app } = testApp();
    await request(app)
      .post('/api/users/u1')
      .set({ ...bearer(SERVICE_KEY), 'x-http-method-override': 'PUT' })
      .send({ email: 'a@example.com' })
      .expect(405);
  });

  it.each(['/api', '/api/', '/api/nowhere', '/api/credits/nowhere', '/api/admin', '/api/../api/x'])(
    '%s is a 404 problem',
    async (path) => {
      const { app } = testApp();
      const response = await request(app).get(path).set('accept', 'text/html').expect(404);
      expect(response.body.code).toBe('not_found');
    },
  );

  it.each(['/.env', '/.git/config', '/package.json', '/src/index.ts'])(
    '%s is 404',
    async (path) => {
      const { app } = testApp();
      await request(app).get(path).expect(404);
    },
  );

  it('answers HEAD like GET without the body', async () => {
    const { app } = testApp();
    const get = await request(app).get('/api/pricing');
    const head = await request(app).head('/api/pricing').expect(200);
    expect(head.headers['content-length']).toBe(get.headers['content-length']);
    expect(head.text).toBeUndefined();
  });
});

describe('request ids', () => {
  it.each([
    ['abcdefgh', true],
    ['a-b_c-1234567890', true],
    ['short', false],
    ['x'.repeat(129), false],
    ['with space in it', false],
    ['{"level":"error"}', false],
  ])('%s is taken over: %s', async (id, taken) => {
    const { app } = testApp();
    const response = await request(app).get('/healthz').set('x-request-id', id);
    const answered = response.headers['x-request-id'];
    if (taken) expect(answered).toBe(id);
    else expect(answered).toMatch(/^[0-9a-f]{8}-[0-9a-f-]{27}$/);
  });

  it('stand in every log line of a request, also after awaiting', async () => {
    const app = testApp();
    app.deps.webhook.retry = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      app.deps.logger.info('from the domain');
      return { matched: 0, requeued: 0, event_ids: [], replay_id: null, dry_run: false };
    };
    await request(app.app)
      .post('/api/admin/stripe/retry-webhooks')
      .set({ ...bearer(app.deps.settings.keys.admin[0] ?? ''), 'x-request-id': 'request-0001' })
      .expect(200);
    const line = JSON.parse(
      app
        .log()
        .split('\n')
        .find((text) => text.includes('from the domain')) ?? '{}',
    );
    expect(line.request_id).toBe('request-0001');
  });
});

describe('health', () => {
  it('is ready without Redis, and says so', async () => {
    const { app } = testApp({ health: { redis: () => Promise.reject(new Error('ECONNREFUSED')) } });
    const response = await request(app).get('/readyz').expect(200);
    expect(response.body.checks).toEqual({ database: 'ok', schema: 'ok', redis: 'degraded' });
  });

  it.each([
    [
      'database',
      { database: () => Promise.reject(new Error('connect 10.0.0.7:5432')) },
      'database',
    ],
    [
      'schema',
      {
        schema: () =>
          Promise.reject(new PurserError('dependency_down', { detail: 'Run npm run migrate.' })),
      },
      'npm run migrate',
    ],
    ['database that hangs', { database: () => new Promise<never>(() => {}) }, 'database'],
  ])('is 503 without %s, and hides where it is', async (_name, health, words) => {
    const { app } = testApp({ health });
    const response = await request(app).get('/readyz').expect(503);
    expect(response.body.code).toBe('dependency_down');
    expect(response.body.detail).toContain(words);
    expect(response.text).not.toContain('10.0.0.7');
    expect(response.headers['retry-after']).toBeDefined();
    await request(app).get('/healthz').expect(200, { status: 'ok' });
  });

  it('is 503 as soon as the process is stopping', async () => {
    const { app, deps } = testApp();
    await request(app).get('/readyz').expect(200);
    deps.lifecycle.beginDrain();
    const response = await request(app).get('/readyz').expect(503);
    expect(response.headers.connection).toBe('close');
    await request(app).get('/healthz').expect(200);
  });
});

describe('a domain that is down', () => {
  it('is 503 on the webhook, so that Stripe sends again', async () => {
    const { app } = testApp({
      webhook: {
        receive: () =>
          Promise.reject(new PurserError('dependency_down', { detail: 'No database.' })),
      },
    });
    const response = await request(app)
      .post('/api/webhooks/stripe')
      .set('stripe-signature', 'good')
      .send({ id: 'evt_1' })
      .expect(503);
    expect(response.body.code).toBe('dependency_down');
  });

  it('is 404 for a job that is not there', async () => {
    const { app } = testApp();
    await request(app).get('/api/cron/no-such-job').set(bearer(CRON_SECRET)).expect(404);
    await request(app).get('/api/cron/no%20job').set(bearer(CRON_SECRET)).expect(400);
  });
});
