import { beforeAll, describe, expect, it } from '@jest/globals';
import { Ajv2020 } from 'ajv/dist/2020.js';
import request from 'supertest';
import type { OpenApiDocument } from '../../src/api/openapi.ts';
import { routes } from '../../src/api/routes/index.ts';
import {
  ADMIN_KEY,
  bearer,
  CRON_SECRET,
  EMBEDDED_ENV,
  SERVICE_KEY,
  testApp,
} from './support/testApp.ts';
import { REPLAY_ID } from './support/webhookDomains.ts';

const user = { 'x-user-id': 'u1', 'x-user-email': 'u1@example.com' };

/** One good call of every route; the answers are checked against the OpenAPI document. */
const GOOD_CALLS: Record<
  string,
  { path: string; headers?: Record<string, string>; body?: object }
> = {
  getPricing: { path: '/api/pricing' },
  createCheckoutSession: {
    path: '/api/checkout-session',
    headers: user,
    body: { plan: 'pack_50', quantity: 2 },
  },
  getCheckoutSession: { path: '/api/checkout-session/cs_test_1', headers: user },
  fulfillCheckoutSession: { path: '/api/checkout-session/cs_test_1/fulfill' },
  createBillingPortalSession: {
    path: '/api/billing-portal-session',
    headers: user,
    body: { return_url: 'http://purser.test/account' },
  },
  getCredits: { path: '/api/credits', headers: user },
  listTransactions: { path: '/api/credits/transactions?limit=10&type=usage', headers: user },
  exportTransactions: { path: '/api/credits/transactions.csv', headers: user },
  getSubscription: { path: '/api/subscription', headers: user },
  getUserSubscription: { path: '/api/users/u1/subscription', headers: bearer(SERVICE_KEY) },
  getUserCredits: { path: '/api/users/u1/credits', headers: bearer(SERVICE_KEY) },
  listUserTransactions: { path: '/api/users/u1/transactions', headers: bearer(SERVICE_KEY) },
  checkCredits: {
    path: '/api/credits/check',
    headers: bearer(SERVICE_KEY),
    body: { user_id: 'u1', amount: 5 },
  },
  consumeCredits: {
    path: '/api/credits/consume',
    headers: { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' },
    body: { user_id: 'u1', feature: 'image', units: 2 },
  },
  consumeCreditsBatch: {
    path: '/api/credits/consume-batch',
    headers: bearer(SERVICE_KEY),
    body: { operations: [{ user_id: 'u1', feature: 'image', idempotency_key: 'k1' }] },
  },
  refundUsage: {
    path: '/api/credits/refund-usage',
    headers: { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' },
    body: { user_id: 'u1', transaction_id: '91', amount: 2 },
  },
  grantCredits: {
    path: '/api/credits/grants?dry_run=true',
    headers: { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' },
    body: {
      user_id: 'u1',
      amount: 5,
      type: 'bonus',
      reason: 'sorry',
      expires_at: '2999-01-01',
      priority: 0,
    },
  },
  adjustCredits: {
    path: '/api/admin/users/u1/adjust',
    headers: { ...bearer(ADMIN_KEY), 'idempotency-key': 'k1' },
    body: { amount: -5, reason: 'counted twice' },
  },
  createHold: {
    path: '/api/credits/holds',
    headers: { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' },
    body: { user_id: 'u1', feature: 'image', units: 2 },
  },
  captureHold: {
    path: '/api/credits/holds/h_1/capture',
    headers: { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' },
    body: { amount: 5 },
  },
  releaseHold: { path: '/api/credits/holds/h_1/release', headers: bearer(SERVICE_KEY) },
  extendHold: {
    path: '/api/credits/holds/h_1/extend',
    headers: bearer(SERVICE_KEY),
    body: { expires_in_seconds: 60 },
  },
  getHold: { path: '/api/credits/holds/h_1', headers: bearer(SERVICE_KEY) },
  listUserHolds: { path: '/api/users/u1/holds?limit=10&cursor=h_1', headers: bearer(SERVICE_KEY) },
  putUser: {
    path: '/api/users/u1',
    headers: bearer(SERVICE_KEY),
    body: { email: 'u1@example.com', stripe_customer_id: 'cus_1' },
  },
  receiveStripeWebhook: {
    path: '/api/webhooks/stripe',
    headers: { 'stripe-signature': 'good' },
    body: { id: 'evt_1' },
  },
  exportUserTransactions: { path: '/api/users/u1/transactions.csv', headers: bearer(SERVICE_KEY) },
  explainCredits: {
    path: '/api/credits/explain?at=2026-11-01&limit=5',
    headers: { 'x-user-id': 'u1' },
  },
  explainUserCredits: { path: '/api/users/u1/credits/explain', headers: bearer(SERVICE_KEY) },
  getStatement: { path: '/api/credits/statement?from=2026-11-01', headers: { 'x-user-id': 'u1' } },
  exportStatement: { path: '/api/credits/statement.csv', headers: { 'x-user-id': 'u1' } },
  getUserStatement: { path: '/api/users/u1/statement', headers: bearer(SERVICE_KEY) },
  exportUserStatement: { path: '/api/users/u1/statement.csv', headers: bearer(SERVICE_KEY) },
  runDueJobs: { path: '/api/cron/tick', headers: bearer(CRON_SECRET) },
  runCronJob: { path: '/api/cron/webhook-sweep', headers: bearer(CRON_SECRET) },
  getMetrics: { path: '/metrics', headers: bearer(ADMIN_KEY) },
  listJobs: { path: '/api/admin/jobs', headers: bearer(ADMIN_KEY) },
  runJob: { path: '/api/admin/jobs/webhook-sweep/run', headers: bearer(ADMIN_KEY) },
  getPayment: { path: '/api/admin/payments/pi_1', headers: bearer(ADMIN_KEY) },
  setPaymentState: {
    path: '/api/admin/payments/pi_1/state',
    headers: bearer(ADMIN_KEY),
    body: { version: 1, paid: 500, refunded: 100, disputed: 0, reason: 'told by phone' },
  },
  retryWebhooks: { path: '/api/admin/stripe/retry-webhooks', headers: bearer(ADMIN_KEY) },
  listWebhookLogs: {
    path: '/api/admin/stripe/webhook-logs?status=dead&type=invoice.paid&q=in_1',
    headers: bearer(ADMIN_KEY),
  },
  getWebhookLog: { path: '/api/admin/stripe/webhook-logs/evt_1', headers: bearer(ADMIN_KEY) },
  listParkedEvents: { path: '/api/admin/stripe/parked?limit=5', headers: bearer(ADMIN_KEY) },
  listDeadLetters: { path: '/api/admin/stripe/dead-letters', headers: bearer(ADMIN_KEY) },
  listReplays: { path: '/api/admin/stripe/replays', headers: bearer(ADMIN_KEY) },
  getReplay: { path: `/api/admin/stripe/replays/${REPLAY_ID}`, headers: bearer(ADMIN_KEY) },
  cancelReplay: {
    path: `/api/admin/stripe/replays/${REPLAY_ID}/cancel`,
    headers: bearer(ADMIN_KEY),
  },
  replayMissedEvents: {
    path: '/api/admin/stripe/replay-missed-events',
    headers: bearer(ADMIN_KEY),
    body: { since: '2026-11-20', dry_run: true },
  },
  getMissedEvents: {
    path: '/api/admin/stripe/replay-missed-events',
    headers: bearer(ADMIN_KEY),
  },
  reconcileStripe: {
    path: '/api/admin/stripe/reconcile',
    headers: bearer(ADMIN_KEY),
    body: { since: '2026-11-01', dry_run: true },
  },
  getReconciliationState: {
    path: '/api/admin/stripe/reconciliation?user_id=u1',
    headers: bearer(ADMIN_KEY),
  },
  listReconciliations: {
    path: '/api/admin/stripe/reconciliations',
    headers: bearer(ADMIN_KEY),
  },
  getReconciliation: {
    path: '/api/admin/stripe/reconciliations/r_1',
    headers: bearer(ADMIN_KEY),
  },
  listFindings: {
    path: '/api/admin/findings?status=open&code=orphaned_grant&user_id=u1&run_id=r_1&limit=10',
    headers: bearer(ADMIN_KEY),
  },
  getFinding: { path: '/api/admin/findings/7', headers: bearer(ADMIN_KEY) },
  resolveFinding: {
    path: '/api/admin/findings/7/resolve',
    headers: bearer(ADMIN_KEY),
    body: { reason: 'a gift' },
  },
  checkUser: { path: '/api/admin/stripe/check-user/u1', headers: bearer(ADMIN_KEY) },
  fixUser: {
    path: '/api/admin/stripe/fix-user/u1',
    headers: bearer(ADMIN_KEY),
    body: { stripe_subscription_id: 'sub_1', dry_run: true, reason: 'he wrote to us' },
  },
  claimParkedEvent: {
    path: '/api/admin/stripe/parked/evt_1/claim',
    headers: bearer(ADMIN_KEY),
    body: { user_id: 'u1', reason: 'wrote from the address on the invoice' },
  },
  createClaimLink: {
    path: '/api/admin/stripe/parked/evt_1/claim-link',
    headers: bearer(ADMIN_KEY),
    body: { expires_in_seconds: 3600 },
  },
  listNotifications: {
    path: '/api/admin/notifications?status=dead&kind=low_balance&user_id=u1&limit=5',
    headers: bearer(ADMIN_KEY),
  },
  getNotification: { path: '/api/admin/notifications/7', headers: bearer(ADMIN_KEY) },
  retryNotification: { path: '/api/admin/notifications/7/retry', headers: bearer(ADMIN_KEY) },
  previewMail: {
    path: '/api/admin/notifications/samples/low_balance',
    headers: bearer(ADMIN_KEY),
  },
  listAlerts: { path: '/api/admin/alerts?status=open', headers: bearer(ADMIN_KEY) },
  redeemClaim: { path: `/api/claims/${'x'.repeat(43)}`, headers: user },
  getSubscriptionHealth: {
    path: '/api/admin/stripe/subscription-health',
    headers: bearer(ADMIN_KEY),
  },
  listAuditEvents: {
    path: '/api/admin/audit?actor=admin:*&action=adjust_credits&user_id=u1&from=2026-11-01&limit=5',
    headers: bearer(ADMIN_KEY),
  },
  searchUsers: { path: '/api/admin/users?q=u1', headers: bearer(ADMIN_KEY) },
  getAdminUser: { path: '/api/admin/users/u1', headers: bearer(ADMIN_KEY) },
  listAdminUserTransactions: {
    path: '/api/admin/users/u1/transactions?limit=5',
    headers: bearer(ADMIN_KEY),
  },
  explainAdminUser: { path: '/api/admin/users/u1/explain', headers: bearer(ADMIN_KEY) },
  listDunningCases: {
    path: '/api/admin/dunning?state=active&user_id=u1&limit=5',
    headers: bearer(ADMIN_KEY),
  },
  getDunningSummary: { path: '/api/admin/dunning/summary', headers: bearer(ADMIN_KEY) },
  previewDunning: {
    path: '/api/admin/dunning/preview?at=2026-11-30&limit=5',
    headers: bearer(ADMIN_KEY),
  },
  getDunningCase: { path: '/api/admin/dunning/1', headers: bearer(ADMIN_KEY) },
  pauseDunning: {
    path: '/api/admin/dunning/1/pause',
    headers: bearer(ADMIN_KEY),
    body: { reason: 'pays on Friday' },
  },
  resumeDunning: {
    path: '/api/admin/dunning/1/resume',
    headers: bearer(ADMIN_KEY),
    body: { reason: 'did not pay on Friday' },
  },
  skipDunningStep: {
    path: '/api/admin/dunning/1/skip',
    headers: bearer(ADMIN_KEY),
    body: { reason: 'we have talked' },
  },
  closeDunning: {
    path: '/api/admin/dunning/1/close',
    headers: bearer(ADMIN_KEY),
    body: { reason: 'a gift' },
  },
  getHealth: { path: '/healthz' },
  getReadiness: { path: '/readyz' },
};

describe('the route table', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  let document: OpenApiDocument;

  beforeAll(async () => {
    document = (await request(testApp().app).get('/api/openapi.json').expect(200)).body;
    ajv.addSchema({ components: document.components }, 'openapi');
  });

  it('names every route differently, so that a reader can tell them apart', () => {
    const names = routes.map(({ contract }) => contract.summary);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('has one good call here for every route, so that none goes untested', () => {
    expect(Object.keys(GOOD_CALLS).sort()).toEqual(
      routes.map(({ contract }) => contract.id).sort(),
    );
  });

  it.each(routes.map(({ contract }) => [contract.id, contract] as const))(
    '%s answers as the OpenAPI document says',
    async (id, contract) => {
      const { app } = testApp({ env: EMBEDDED_ENV });
      const call = GOOD_CALLS[id];
      if (call === undefined) throw new Error(`no call for ${id}`);
      const response = await request(app)
        [contract.method](call.path)
        .set(call.headers ?? {})
        .send(call.body);
      const [status] = Object.keys(contract.responses);
      expect({ status: response.status, body: response.body }).toMatchObject({
        status: Number(status),
      });
      expect(response.headers['x-request-id']).toMatch(/^[\w-]{8,128}$/);

      const path = contract.path.replace(/:(\w+)/g, '{$1}');
      const described = document.paths[path]?.[contract.method]?.responses[status ?? ''];
      const json = described?.content?.['application/json'];
      if (json === undefined) return;
      const validate = ajv.compile(
        JSON.parse(JSON.stringify(json.schema).replaceAll('"#/', '"openapi#/')),
      );
      expect(validate(response.body) || validate.errors).toBe(true);
    },
  );

  it('describes every route, and every reference in the document leads somewhere', () => {
    const described = Object.values(document.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
    expect(described.sort()).toEqual(routes.map(({ contract }) => contract.id).sort());
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)];
    expect(references.length).toBeGreaterThan(20);
    for (const [, reference] of references) {
      const name = reference?.replace('#/components/schemas/', '') ?? '';
      expect(Object.keys(document.components.schemas)).toContain(name);
    }
  });
});

describe('arguments handed to the domains', () => {
  it('turns a feature into credits by the catalogue', async () => {
    const { app, calls } = testApp();
    await request(app)
      .post('/api/credits/consume')
      .set({ ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' })
      .send({
        user_id: 'u1',
        feature: 'image',
        units: 3,
        description: 'three',
        metadata: { a: [1] },
      })
      .expect(200);
    expect(calls).toEqual([
      {
        name: 'consume',
        args: [
          {
            userId: 'u1',
            amount: 15,
            idempotencyKey: 'k1',
            description: 'three',
            metadata: { a: [1] },
          },
        ],
      },
    ]);
  });

  it('marks a replay by a header, with the same body', async () => {
    const { app } = testApp();
    const consume = (key: string) =>
      request(app)
        .post('/api/credits/consume')
        .set({ ...bearer(SERVICE_KEY), 'idempotency-key': key })
        .send({ user_id: 'u1', amount: 5 });
    const first = await consume('fresh');
    const replay = await consume('replayed');
    expect(first.headers['idempotency-replayed']).toBeUndefined();
    expect(replay.headers['idempotency-replayed']).toBe('true');
    expect(replay.body).toEqual(first.body);
  });

  it('reserves by the catalogue for 10 minutes, and captures all when no amount is given', async () => {
    const { app, calls } = testApp();
    const keyed = { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' };
    await request(app)
      .post('/api/credits/holds')
      .set(keyed)
      .send({ user_id: 'u1', feature: 'image', units: 3 })
      .expect(201);
    await request(app).post('/api/credits/holds/h_7/capture').set(keyed).expect(200);
    await request(app)
      .post('/api/credits/holds/h_7/extend')
      .set(bearer(SERVICE_KEY))
      .send({ expires_in_seconds: 2_592_000 })
      .expect(200);
    expect(calls).toEqual([
      {
        name: 'createHold',
        args: [{ userId: 'u1', amount: 15, expiresInSeconds: 600, idempotencyKey: 'k1' }],
      },
      { name: 'captureHold', args: [{ holdId: 'h_7', idempotencyKey: 'k1' }] },
      { name: 'extendHold', args: [{ holdId: 'h_7', expiresInSeconds: 2_592_000 }] },
    ]);
  });

  it('decodes user ids of any printable text from the path', async () => {
    const { app, calls } = testApp();
    const id = 'auth0|a/b é 😀';
    const response = await request(app)
      .get(`/api/users/${encodeURIComponent(id)}/credits`)
      .set(bearer(SERVICE_KEY))
      .expect(200);
    expect(response.body.user_id).toBe(id);
    expect(calls).toEqual([{ name: 'balance', args: [id] }]);
  });

  it('puts a user as the app says, over what was known', async () => {
    const { app, calls } = testApp();
    await request(app)
      .put('/api/users/u1')
      .set(bearer(SERVICE_KEY))
      .send({ email: 'u1@example.com' })
      .expect(200);
    expect(calls[0]).toEqual({
      name: 'ensureUser',
      args: [{ userId: 'u1', email: 'u1@example.com', stripeCustomerId: undefined, replace: true }],
    });
  });

  it('names the key that acted by its fingerprint, never by itself', async () => {
    const { app, calls } = testApp();
    await request(app)
      .post('/api/admin/stripe/retry-webhooks')
      .set(bearer(ADMIN_KEY))
      .send({ status: 'parked', dry_run: true })
      .expect(200);
    expect(calls[0]?.args[0]).toEqual({ status: 'parked', dry_run: true });
    expect(calls[0]?.args[1]).toMatch(/^admin:[0-9a-f]{8}$/);
  });
});

describe('pricing', () => {
  it('answers 304 to the ETag it gave, although as_of moved on', async () => {
    let minute = 0;
    const { app } = testApp({
      checkout: {
        pricing: async () => ({
          mode: 'test',
          currency: 'usd',
          packs: [],
          plans: [],
          as_of: `2026-11-21T10:0${minute++}:00.000Z`,
        }),
      },
    });
    const first = await request(app).get('/api/pricing').expect(200);
    expect(first.headers.etag).toMatch(/^W\/"/);
    expect(first.headers['cache-control']).toContain('must-revalidate');
    const etag = String(first.headers.etag);
    const second = await request(app).get('/api/pricing').set('If-None-Match', etag).expect(304);
    expect(second.text).toBe('');
    await request(app).get('/api/pricing').set('If-None-Match', 'W/"other"').expect(200);
  });

  it('never answers 304 for what has no ETag', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV });
    await request(app).get('/api/credits').set(user).set('If-None-Match', '*').expect(200);
  });
});
