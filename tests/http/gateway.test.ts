import { createHmac } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { EMBEDDED_ENV, testApp } from './support/testApp.ts';

const SECRET = 'gateway-secret-0123456789-0123456789-abcd';
const OLD_SECRET = 'gateway-secret-of-last-month-0123456789-ab';
const NOW = new Date('2026-11-21T10:00:00.000Z');
const clock = { now: () => NOW };
const seconds = NOW.getTime() / 1000;

interface Signed {
  id?: string;
  email?: string;
  timestamp?: number | string;
  method?: string;
  path?: string;
  secret?: string;
}

function signed({
  id = 'u1',
  email = 'u1@example.com',
  timestamp = seconds,
  method = 'GET',
  path = '/api/credits',
  secret = SECRET,
}: Signed = {}): Record<string, string> {
  const message = `${id}\n${email}\n${timestamp}\n${method}\n${path}`;
  return {
    'x-user-id': Buffer.from(id).toString('latin1'),
    ...(email === '' ? {} : { 'x-user-email': email }),
    'x-user-timestamp': String(timestamp),
    'x-user-signature': createHmac('sha256', secret).update(message).digest('hex'),
  };
}

const app = () => testApp({ env: { PURSER_GATEWAY_SECRET: `${SECRET},${OLD_SECRET}` }, clock }).app;

describe('users signed by a gateway', () => {
  const accepted: [string, Signed][] = [
    ['as it is', {}],
    ['without an e-mail', { email: '' }],
    ['60 s old', { timestamp: seconds - 60 }],
    ['60 s ahead', { timestamp: seconds + 60 }],
    ['with the secret before the rotation', { secret: OLD_SECRET }],
    ['for an id in UTF-8', { id: 'müller 😀' }],
  ];
  it.each(accepted)('come in with a signature %s', async (_name, options) => {
    const response = await request(app()).get('/api/credits').set(signed(options)).expect(200);
    expect(response.body.user_id).toBe(options.id ?? 'u1');
  });

  const refused: [string, Record<string, string>][] = [
    ['by another secret', signed({ secret: 'x'.repeat(40) })],
    ['61 s old', signed({ timestamp: seconds - 61 })],
    ['61 s ahead', signed({ timestamp: seconds + 61 })],
    ['for another path', signed({ path: '/api/credits/transactions' })],
    ['for another query', signed({ path: '/api/credits?x=1' })],
    ['for another method', signed({ method: 'POST' })],
    ['moved to another user', { ...signed(), 'x-user-id': 'u2' }],
    ['moved to another e-mail', { ...signed(), 'x-user-email': 'u2@example.com' }],
    ['moved to another time', { ...signed(), 'x-user-timestamp': String(seconds + 1) }],
    ['with a time that is no number', signed({ timestamp: 'now' })],
    ['with a time in milliseconds', signed({ timestamp: NOW.getTime() })],
    [
      'cut short',
      { ...signed(), 'x-user-signature': signed()['x-user-signature']?.slice(2) ?? '' },
    ],
    ['that is not hex', { ...signed(), 'x-user-signature': 'z'.repeat(64) }],
    ['that is empty', { ...signed(), 'x-user-signature': '' }],
    ['for an empty id', signed({ id: '' })],
  ];
  it.each(refused)('are refused with a signature %s', async (_name, headers) => {
    const response = await request(app()).get('/api/credits').set(headers).expect(401);
    expect(response.body.code).toBe('unauthenticated');
  });

  it('sign the whole request target, query included', async () => {
    const path = '/api/credits/transactions?limit=5&type=usage';
    await request(app()).get(path).set(signed({ path })).expect(200);
    await request(app())
      .get(path)
      .set(signed({ path: '/api/credits/transactions' }))
      .expect(401);
  });

  it('are refused when a header comes twice', async () => {
    const server = app();
    for (const name of ['x-user-id', 'x-user-signature', 'x-user-timestamp', 'x-user-email']) {
      const headers: Record<string, string | string[]> = signed();
      headers[name] = [String(headers[name]), String(headers[name])];
      await request(server)
        .get('/api/credits')
        .set(headers as never)
        .expect(401);
    }
  });

  it('are no admins', async () => {
    const path = '/api/admin/jobs/webhook-sweep/run';
    await request(app())
      .post(path)
      .set(signed({ method: 'POST', path }))
      .expect(401);
  });

  it('do not exist without a gateway secret', async () => {
    const { app: withoutSecret } = testApp({ clock });
    await request(withoutSecret).get('/api/credits').set(signed()).expect(401);
  });
});

describe('a plain x-user-id', () => {
  it.each([
    ['real database', {}],
    ['gateway secret', { PURSER_GATEWAY_SECRET: SECRET }],
    [
      'real Stripe',
      {
        ...EMBEDDED_ENV,
        STRIPE_SECRET_KEY: 'sk_test_123456789',
        STRIPE_WEBHOOK_SECRET: 'whsec_123',
      },
    ],
  ])('is nobody with a %s', async (_name, env) => {
    const { app: server, calls } = testApp({ env });
    const response = await request(server).get('/api/credits').set('x-user-id', 'u2').expect(401);
    expect(JSON.stringify(response.body)).not.toContain('u2');
    expect(calls).toEqual([]);
    const status = await request(server)
      .get('/api/checkout-session/cs_test_1')
      .set('x-user-id', 'u2')
      .expect(200);
    expect(status.body.balance).toBeUndefined();
  });

  it('is the local user switch when every part is embedded', async () => {
    const { app: server } = testApp({ env: EMBEDDED_ENV });
    const response = await request(server).get('/api/credits').set('x-user-id', 'u2').expect(200);
    expect(response.body.user_id).toBe('u2');
    await request(server)
      .post('/api/admin/jobs/webhook-sweep/run')
      .set('x-user-id', 'u2')
      .expect(401);
    await request(server).get('/api/users/u2/credits').set('x-user-id', 'u2').expect(401);
  });

  it.each([
    ['too long', 'x'.repeat(256)],
    ['empty', ''],
  ])('that is %s is refused also there', async (_name, id) => {
    const { app: server } = testApp({ env: EMBEDDED_ENV });
    await request(server).get('/api/credits').set('x-user-id', id).expect(401);
  });
});
