import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { ADMIN_KEY, bearer, SERVICE_KEY, testApp } from './support/testApp.ts';

const service = { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' };
const admin = { ...bearer(ADMIN_KEY), 'idempotency-key': 'k1' };
const REFUND = '/api/credits/refund-usage';
const GRANTS = '/api/credits/grants';
const ADJUST = '/api/admin/users/u1/adjust';
const refund = { user_id: 'u1', transaction_id: '91' };
const grant = { user_id: 'u1', amount: 5, type: 'bonus', reason: 'sorry' };
const adjust = { amount: 5, reason: 'counted twice' };

describe('what is wrong with a correction', () => {
  it.each<[string, string, object, string]>([
    ['a refund of nothing', REFUND, { ...refund, amount: 0 }, 'amount'],
    ['a refund without its entry', REFUND, { user_id: 'u1' }, 'transaction_id'],
    ['an entry given as a number', REFUND, { ...refund, transaction_id: 91 }, 'transaction_id'],
    ['a grant without a reason', GRANTS, { ...grant, reason: undefined }, 'reason'],
    ['a grant with a blank reason', GRANTS, { ...grant, reason: ' \n' }, 'reason'],
    ['a reason of 501 characters', GRANTS, { ...grant, reason: 'x'.repeat(501) }, 'reason'],
    ['a grant of a purchase', GRANTS, { ...grant, type: 'purchase' }, 'type'],
    ['a priority below 0', GRANTS, { ...grant, priority: -1 }, 'priority'],
    ['a priority above 1000', GRANTS, { ...grant, priority: 1001 }, 'priority'],
    ['an end that is no time', GRANTS, { ...grant, expires_at: 'soon' }, 'expires_at'],
    ['a grant that names its cost', GRANTS, { ...grant, cost_amount: 5 }, 'cost_amount'],
    ['an adjustment of 0', ADJUST, { ...adjust, amount: 0 }, 'amount'],
    ['an adjustment of half a credit', ADJUST, { ...adjust, amount: 0.5 }, 'amount'],
    ['an adjustment past 2^53 - 1', ADJUST, { ...adjust, amount: -(2 ** 53) }, 'amount'],
    ['an adjustment without a reason', ADJUST, { amount: 5 }, 'reason'],
    ['an adjustment that says who made it', ADJUST, { ...adjust, actor: 'me' }, 'actor'],
  ])('is named: %s', async (_what, path, body, field) => {
    const { app, calls } = testApp();
    const headers = path === ADJUST ? admin : service;
    const response = await request(app).post(path).set(headers).send(body).expect(400);
    expect(response.body).toMatchObject({ code: 'invalid_request', errors: [{ path: field }] });
    expect(calls).toEqual([]);
  });

  it.each([
    [REFUND, refund, bearer(SERVICE_KEY)],
    [GRANTS, grant, bearer(SERVICE_KEY)],
    [ADJUST, adjust, bearer(ADMIN_KEY)],
  ])('is a missing Idempotency-Key: %s', async (path, body, headers) => {
    const response = await request(testApp().app).post(path).set(headers).send(body).expect(400);
    expect(response.body.code).toBe('idempotency_key_missing');
  });

  it.each([
    [REFUND, refund, admin],
    [GRANTS, grant, admin],
    [ADJUST, adjust, service],
  ])('is the key for another door: %s', async (path, body, headers) => {
    const response = await request(testApp().app).post(path).set(headers).send(body).expect(403);
    expect(response.body.code).toBe('forbidden');
  });
});

describe('an adjustment', () => {
  it('is handed on with the fingerprint of the key as its actor, never the key', async () => {
    const { app, calls } = testApp();
    await request(app).post(ADJUST).set(admin).send(adjust).expect(200);
    expect(calls).toEqual([
      {
        name: 'adjust',
        args: [
          { userId: 'u1', ...adjust, idempotencyKey: 'k1' },
          expect.stringMatching(/^admin:[0-9a-f]{8}$/),
        ],
      },
    ]);
    expect(JSON.stringify(calls)).not.toContain(ADMIN_KEY);
  });
});

describe('?dry_run', () => {
  it('asks for a dry run when true, and for the real call when false', async () => {
    const { app, calls } = testApp();
    const dry = await request(app)
      .post(`${REFUND}?dry_run=true`)
      .set(service)
      .send(refund)
      .expect(200);
    expect(dry.body).toMatchObject({ outcome: 'applied', dry_run: true, rows: { entries: [] } });
    expect(calls).toEqual([]);
    const real = await request(app)
      .post(`${REFUND}?dry_run=false`)
      .set(service)
      .send(refund)
      .expect(200);
    expect(real.body).not.toHaveProperty('dry_run');
    expect(real.body).not.toHaveProperty('rows');
    expect(calls).toHaveLength(1);
  });

  it.each(['dry_run=1', 'dry_run', 'dry_run=TRUE', 'dry_run=true&dry_run=true', 'dryRun=true'])(
    'written ?%s is refused: who asks for a dry run must not get a real one',
    async (query) => {
      const { app, calls } = testApp();
      const response = await request(app).post(`${GRANTS}?${query}`).set(service).send(grant);
      expect(response.status).toBe(400);
      expect(calls).toEqual([]);
    },
  );
});
