import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { LIMITS } from '../../src/api/rateLimits.ts';
import { parseSettings } from '../../src/config.ts';
import {
  ADMIN_KEY,
  bearer,
  CRON_SECRET,
  EMBEDDED_ENV,
  SERVICE_KEY,
  testApp,
} from './support/testApp.ts';

const NEW_KEY = 'service-key-of-the-next-month-0123456789';
const JOB = '/api/admin/jobs/webhook-sweep/run';

describe('keys', () => {
  it('are several at once while they are rotated', async () => {
    const { app } = testApp({ env: { PURSER_SERVICE_KEY: ` ${SERVICE_KEY} , ${NEW_KEY},` } });
    for (const key of [SERVICE_KEY, NEW_KEY]) {
      await request(app).get('/api/users/u1/credits').set(bearer(key)).expect(200);
    }
    for (const key of [`${SERVICE_KEY},${NEW_KEY}`, SERVICE_KEY.slice(0, -1), `${NEW_KEY}x`]) {
      await request(app).get('/api/users/u1/credits').set(bearer(key)).expect(401);
    }
  });

  it('have fingerprints of their own in the audit', async () => {
    const { app, calls } = testApp({ env: { PURSER_ADMIN_KEY: `${ADMIN_KEY},${ADMIN_KEY}2` } });
    await request(app).post(JOB).set(bearer(ADMIN_KEY)).expect(200);
    await request(app)
      .post(JOB)
      .set(bearer(`${ADMIN_KEY}2`))
      .expect(200);
    const actors = calls.map(({ args }) => args[1]);
    expect(new Set(actors).size).toBe(2);
    expect(actors.join()).not.toContain('admin-key');
  });

  it.each([
    ['no key', {}, 401],
    ['a wrong key', bearer('wrong'), 401],
    ['a key one character off', bearer(`${ADMIN_KEY.slice(0, -1)}x`), 401],
    ['the service key', bearer(SERVICE_KEY), 403],
    ['the cron secret', bearer(CRON_SECRET), 403],
    ['the admin key', bearer(ADMIN_KEY), 200],
    ['the admin key, scheme in lower case', { authorization: `bearer ${ADMIN_KEY}` }, 200],
    ['the admin key without a scheme', { authorization: ADMIN_KEY }, 401],
    ['x-admin-key', { 'x-admin-key': ADMIN_KEY }, 401],
    ['undefined', bearer('undefined'), 401],
  ])('on admin routes: %s', async (_name, headers, status) => {
    const { app } = testApp();
    await request(app)
      .post(JOB)
      .set(headers as Record<string, string>)
      .expect(status);
  });

  it('never work in the query', async () => {
    const { app, calls, log } = testApp();
    for (const name of ['key', 'token', 'access_token', 'authorization', 'apikey']) {
      await request(app).post(`${JOB}?${name}=${ADMIN_KEY}`).expect(401);
    }
    expect(calls).toEqual([]);
    expect(log()).not.toContain(ADMIN_KEY);
  });

  it.each([
    ['no secret', {}, 401],
    ['a wrong secret', bearer('wrong'), 401],
    ['the admin key', bearer(ADMIN_KEY), 403],
    ['the cron secret', bearer(CRON_SECRET), 200],
  ])('on cron routes: %s', async (_name, headers, status) => {
    const { app } = testApp();
    await request(app)
      .get('/api/cron/tick')
      .set(headers as Record<string, string>)
      .expect(status);
  });

  it('close the cron routes in production while CRON_SECRET is not set', async () => {
    const { app, deps } = testApp({
      env: {
        NODE_ENV: 'production',
        PUBLIC_URL: 'https://credits.example.com',
        STRIPE_SECRET_KEY: 'sk_live_123456',
        STRIPE_WEBHOOK_SECRET: 'whsec_123456',
        PURSER_ALLOW_EMBEDDED: '1',
        CRON_SECRET: undefined,
      },
    });
    expect(deps.settings.production).toBe(true);
    for (const token of ['undefined', 'null', '', ADMIN_KEY]) {
      const response = await request(app)
        .get('/api/cron/tick')
        .set('authorization', `Bearer ${token}`);
      expect(response.status).toBe(503);
      expect(response.body.detail).toContain('CRON_SECRET');
    }
  });

  it('admit nobody where none is set', async () => {
    const { settings } = parseSettings({ ...EMBEDDED_ENV, PURSER_ADMIN_KEY: '' });
    expect(settings.keys.admin).toEqual([]);
    const { app } = testApp({ env: { PURSER_ADMIN_KEY: '' } });
    for (const token of ['undefined', 'x']) {
      await request(app).post(JOB).set(bearer(token)).expect(401);
    }
    await request(app).post(JOB).set('authorization', 'Bearer ').expect(401);
  });
});

describe('rate limits', () => {
  const wrong = (app: Parameters<typeof request>[0], headers = {}) =>
    request(app)
      .post(JOB)
      .set({ ...bearer('wrong'), ...headers });

  it('stop guessing of keys, do not believe a forwarded address, and never hold up a good key', async () => {
    const { app } = testApp();
    for (let guess = 0; guess < LIMITS.wrongKeysPerAddress; guess += 1) {
      await wrong(app, { 'x-forwarded-for': `10.0.0.${guess}` }).expect(401);
    }
    const refused = await wrong(app, { 'x-forwarded-for': '10.0.1.1' }).expect(429);
    expect(refused.body.code).toBe('rate_limited');
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(60);
    await request(app).post(JOB).set(bearer(ADMIN_KEY)).expect(200);
    await request(app).get('/api/users/u1/credits').set(bearer(SERVICE_KEY)).expect(200);
  });

  it('believe the forwarded address of as many proxies as are set', async () => {
    const { app } = testApp({ env: { PURSER_TRUST_PROXY: '1' } });
    for (let guess = 0; guess <= LIMITS.wrongKeysPerAddress; guess += 1) {
      // The client can write any address before the one its proxy adds.
      await wrong(app, { 'x-forwarded-for': `10.0.0.${guess}, 203.0.113.9` });
    }
    await wrong(app, { 'x-forwarded-for': '10.0.0.99, 203.0.113.9' }).expect(429);
    await wrong(app, { 'x-forwarded-for': '10.0.0.99, 203.0.113.10' }).expect(401);
  });

  it('allow a user 60 checkouts a minute, and another one his own', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV });
    const buy = (id: string) =>
      request(app).post('/api/checkout-session').set('x-user-id', id).send({ plan: 'pack_50' });
    for (let count = 0; count < LIMITS.checkoutsPerUser; count += 1) await buy('u1').expect(200);
    const refused = await buy('u1').expect(429);
    expect(refused.body.code).toBe('rate_limited');
    expect(refused.headers['retry-after']).toBeDefined();
    await buy('u2').expect(200);
  });

  it('tell what is left in RateLimit headers', async () => {
    const { app } = testApp();
    const response = await request(app).get('/api/pricing');
    expect(response.headers['ratelimit-policy']).toContain(`q=${LIMITS.perAddress}`);
    expect(response.headers.ratelimit).toContain(`r=${LIMITS.perAddress - 1}`);
    expect(response.headers['x-ratelimit-limit']).toBeUndefined();
  });

  it('do not exist on the webhook route and on health', async () => {
    const { app } = testApp();
    const webhook = await request(app)
      .post('/api/webhooks/stripe')
      .set('stripe-signature', 'good')
      .send({ id: 'evt_1' });
    expect(webhook.headers.ratelimit).toBeUndefined();
    expect((await request(app).get('/healthz')).headers.ratelimit).toBeUndefined();
  });

  it('count a good service key by itself, not by its address', async () => {
    const { app } = testApp();
    const response = await request(app).get('/api/users/u1/credits').set(bearer(SERVICE_KEY));
    expect(response.headers['ratelimit-policy']).toContain(`q=${LIMITS.perServiceKey}`);
    expect(response.headers['ratelimit-policy']).not.toContain(`q=${LIMITS.perAddress};`);
  });
});
