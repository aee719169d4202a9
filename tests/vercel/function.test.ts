/** The bundle as Vercel runs it: Supabase's Data API, Upstash's REST and Stripe over HTTP alone. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { buildFunction } from '../../scripts/build-vercel.ts';
import { loadCatalogue } from '../../src/catalogue/catalogue.ts';
import { sandboxCatalogue } from '../../src/compose/sandboxCatalogue.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { testDatabase } from '../support/postgres.ts';
import { type Postgrest, startPostgrest } from '../support/postgrest.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import {
  ADMIN_KEY,
  type CallOptions,
  CRON_SECRET,
  callServer,
  deliverEvent,
  JWT_SECRET,
  SERVICE_KEY,
  signToken,
  WEBHOOK_SECRET,
} from '../support/stack.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';
import { type RunningFunction, startFunction } from './support.ts';

const database = testDatabase();

beforeAll(async () => {
  await buildFunction();
});

describeWith('redis-server', 'the function', (program) => {
  let sandbox: Sandbox;
  let stripe: Stripe;
  let postgrest: Postgrest;
  let redis: RedisServer;
  let upstash: UpstashServer;
  let env: Record<string, string>;
  let running: RunningFunction;

  beforeAll(async () => {
    sandbox = await startSandbox();
    await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(undefined)));
    const { hostname, port } = new URL(sandbox.origin);
    stripe = new Stripe(sandbox.secretKey, { host: hostname, port, protocol: 'http' });
    postgrest = await startPostgrest({ connectionString: database.current.connectionString });
    redis = await startRedisServer({ program });
    upstash = await startUpstashServer({ redisPort: redis.port });
    env = {
      NODE_ENV: 'production',
      VERCEL_ENV: 'production',
      VERCEL_PROJECT_PRODUCTION_URL: 'credits.example.com',
      SUPABASE_URL: postgrest.url,
      SUPABASE_SECRET_KEY: postgrest.keys.secret,
      SUPABASE_JWT_SECRET: JWT_SECRET,
      KV_REST_API_URL: upstash.url,
      KV_REST_API_TOKEN: upstash.token,
      STRIPE_SECRET_KEY: sandbox.secretKey,
      STRIPE_API_BASE: sandbox.origin,
      STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
      PURSER_SERVICE_KEY: SERVICE_KEY,
      PURSER_ADMIN_KEY: ADMIN_KEY,
      CRON_SECRET,
    };
    running = await startFunction({ env, options: ['freeze'] });
  });
  afterAll(async () => {
    await running.stop();
    await upstash.close();
    await redis.stop();
    await postgrest.stop();
    await sandbox.stop();
  });

  /** One request; when it resolves, the platform has frozen the process. */
  async function call(method: string, target: string, options?: CallOptions) {
    running.thaw();
    const answer = await callServer(running.url, method, target, options);
    await running.frozen();
    return answer;
  }

  async function deliver(event: unknown) {
    running.thaw();
    const answer = await deliverEvent(stripe, running.url, event);
    await running.frozen();
    return answer;
  }

  const tokenOf = (user: string) => signToken(user, { iss: `${postgrest.url}/auth/v1` });

  async function buy(user: string): Promise<string> {
    const { status, body } = await call('POST', '/api/checkout-session', {
      bearer: await tokenOf(user),
      body: { plan: 'pack_50' },
    });
    expect({ status, body }).toMatchObject({ status: 200 });
    await sandbox.pay(body.session_id);
    return body.session_id;
  }

  async function completedEvent(sessionId: string): Promise<Stripe.Event> {
    const { data } = await stripe.events.list({ limit: 100 });
    const event = data.find(
      ({ type, data: { object } }) =>
        type === 'checkout.session.completed' && (object as { id?: string }).id === sessionId,
    );
    if (event === undefined) throw new Error(`No event of ${sessionId}`);
    return event;
  }

  const mirrorOf = async (user: string) => {
    const flat = (await redis.wire.call('HGETALL', `credits:{${user}}`)) as string[];
    return Object.fromEntries(
      flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1]]] : [])),
    );
  };

  const statusOf = async (eventId: string) => {
    const [row] = await database.current.query<{ status: string }>(
      'select status from stripe_webhook_events where stripe_event_id = $1',
      [eventId],
    );
    return row?.status;
  };

  it('is ready, sells under the address of the deployment, and hides nothing behind a proxy', async () => {
    expect(await call('GET', '/readyz')).toMatchObject({ status: 200 });
    const { status, body } = await call('GET', '/api/pricing');
    expect(status).toBe(200);
    expect(body).toMatchObject({ mode: 'test', packs: [{ id: 'pack_50' }, {}, {}] });
    const refused = await call('GET', '/api/credits');
    expect(refused.body.type).toBe('https://credits.example.com/problems/unauthenticated');
  });

  it('has credited and mirrored a purchase when the platform freezes it after the webhook', async () => {
    const event = await completedEvent(await buy('ann'));
    expect(await deliver(event)).toMatchObject({
      status: 200,
      body: { received: true, duplicate: false },
    });
    expect(await statusOf(event.id)).toBe('processed');
    expect(await mirrorOf('ann')).toMatchObject({ balance: '50', available: '50' });
  });

  it('checks in one round trip to Redis, and has mirrored a spend when it is frozen', async () => {
    const question = { bearer: SERVICE_KEY, body: { user_id: 'ann', amount: 5 } };
    upstash.requests.length = 0;
    const check = await call('POST', '/api/credits/check', question);
    expect(check.body).toMatchObject({ allowed: true, available: 50, source: 'redis' });
    expect(upstash.requests).toHaveLength(1);

    const spend = { ...question, headers: { 'idempotency-key': 'job-1' } };
    const first = await call('POST', '/api/credits/consume', spend);
    expect(first).toMatchObject({ status: 200, body: { balance: 45 } });
    expect(await mirrorOf('ann')).toMatchObject({ available: '45' });
    const again = await call('POST', '/api/credits/consume', spend);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
  });

  it('takes up what is due of others with each webhook', async () => {
    const left = await completedEvent(await buy('ben'));
    // Committed, and then the instance died: nobody has it.
    await database.current.query(
      `select receive_webhook_event($1, $2, $3, $3, now(), $4::jsonb, null)`,
      [left.id, left.type, (left.data.object as { id: string }).id, JSON.stringify(left)],
    );
    expect(await statusOf(left.id)).toBe('received');
    await deliver(await completedEvent(await buy('cleo')));
    expect(await statusOf(left.id)).toBe('processed');
    expect(await mirrorOf('ben')).toMatchObject({ balance: '50' });
  });

  it('leaves nothing of a burst behind that exceeds what one instance works on at once', async () => {
    const events = Array.from({ length: 40 }, (_, index) => ({
      id: `evt_burst_${index}`,
      object: 'event',
      type: 'checkout.session.expired',
      api_version: Stripe.API_VERSION,
      created: Math.floor(Date.now() / 1000),
      livemode: false,
      data: { object: { id: `cs_test_burst_${index}`, object: 'checkout.session' } },
    }));
    // Slow enough for more to arrive than are worked on at once: the others get no lease.
    postgrest.faults.delayMs = 150;
    running.thaw();
    const answers = await Promise.all(
      events.map((event) => deliverEvent(stripe, running.url, event)),
    );
    await running.frozen();
    postgrest.faults.delayMs = 0;
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    const rows = await database.current.query<{ status: string }>(
      `select status from stripe_webhook_events where stripe_event_id like 'evt_burst_%'`,
    );
    expect(rows).toHaveLength(40);
    expect(rows.filter(({ status }) => status === 'received' || status === 'leased')).toEqual([]);
  });

  it('runs everything due at a tick with the secret Vercel sends, and nothing without', async () => {
    expect((await call('GET', '/api/cron/tick')).status).toBe(401);
    expect((await call('GET', '/api/cron/tick', { bearer: 'undefined' })).status).toBe(401);
    expect((await call('GET', '/api/cron/tick', { bearer: SERVICE_KEY })).status).toBe(403);
    const { status, body } = await call('GET', '/api/cron/tick', {
      bearer: CRON_SECRET,
      headers: { 'user-agent': 'vercel-cron/1.0', 'x-vercel-cron-schedule': '0 4 * * *' },
    });
    expect(status).toBe(200);
    const outcomes = body.runs.map(
      ({ job, outcome }: { job: string; outcome: string }) => `${job} ${outcome}`,
    );
    expect(outcomes).toEqual(
      expect.arrayContaining(['webhook-sweep done', 'mirror-repair done', 'expire-credits done']),
    );
    // Delivered twice, as Vercel may: the second finds nothing due.
    const twice = await call('GET', '/api/cron/tick', { bearer: CRON_SECRET });
    expect(twice.status).toBe(200);
  });

  it('mirrors at the next tick what was changed by SQL', async () => {
    await database.current.query(
      `select grant_credits('ann', 'bonus', 'grant:by-hand', '[{"credits": 7}]')`,
    );
    await database.current.query(`update scheduled_jobs set next_run_at = now()`);
    await call('GET', '/api/cron/tick', { bearer: CRON_SECRET });
    expect(await mirrorOf('ann')).toMatchObject({ balance: '52' });
  });

  it('closes the cron routes where no secret is set', async () => {
    const { CRON_SECRET: _none, ...without } = env;
    const open = await startFunction({ env: without });
    try {
      const { status, body } = await callServer(open.url, 'GET', '/api/cron/tick', {
        bearer: 'undefined',
      });
      expect(status).toBe(503);
      expect(body.detail).toContain('CRON_SECRET is not set');
      expect(open.output()).toContain('CRON_SECRET is not set');
    } finally {
      await open.stop();
    }
  });

  it('works where the platform has put its helpers upon requests', async () => {
    const helped = await startFunction({ env, options: ['helpers'] });
    try {
      const body = { user_id: 'ann', amount: 1 };
      const check = await callServer(helped.url, 'POST', '/api/credits/check', {
        bearer: SERVICE_KEY,
        body,
      });
      expect(check).toMatchObject({ status: 200, body: { allowed: true } });
      const list = await callServer(helped.url, 'GET', '/api/users/ann/transactions?limit=1', {
        bearer: SERVICE_KEY,
      });
      expect(list.body.data).toHaveLength(1);
      const page = await callServer(helped.url, 'GET', '/nowhere', {
        headers: { accept: 'text/html' },
      });
      expect(page).toMatchObject({ status: 404, body: expect.stringContaining('<html') });
    } finally {
      await helped.stop();
    }
  });
});

describe('a deployment with wrong settings', () => {
  it('answers 503 and names all of them, with their fix, in its log alone', async () => {
    const broken = await startFunction({
      env: {
        NODE_ENV: 'production',
        DATABASE_URL: 'postgresql://u:hidden@db.example.com/app',
        STRIPE_SECRET_KEY: 'pk_live_hidden',
        CRON_SECRET: 'hidden-one-0123456789-0123456789-01,hidden-two-0123456789-0123456789-01',
      },
    });
    try {
      const { status, headers, body } = await callServer(broken.url, 'GET', '/api/pricing');
      expect(status).toBe(503);
      expect(headers.get('content-type')).toBe('application/problem+json');
      expect(body).toMatchObject({ code: 'dependency_down', status: 503 });
      const log = broken.output();
      for (const variable of [
        'SUPABASE_URL',
        'UPSTASH_REDIS_REST_URL',
        'STRIPE_SECRET_KEY',
        'CRON_SECRET',
        'PUBLIC_URL',
        'PURSER_SERVICE_KEY',
        'PURSER_ADMIN_KEY',
      ]) {
        expect(log).toMatch(new RegExp(`${variable} {2}.+\\n +fix: .+`));
        expect(JSON.stringify(body)).not.toContain(variable);
      }
      expect(log).not.toContain('hidden');
      expect(log).not.toContain('PURSER_ALLOW_EMBEDDED');
    } finally {
      await broken.stop();
    }
  });
});
