import { Writable } from 'node:stream';
import type { Express } from 'express';
import { createApp } from '../../../src/api/app.ts';
import type { AppDeps } from '../../../src/api/deps.ts';
import { createTokenVerifier } from '../../../src/api/identity/tokens.ts';
import { createLifecycle } from '../../../src/api/lifecycle.ts';
import { parseSettings } from '../../../src/config.ts';
import { PurserError } from '../../../src/core/errors.ts';
import type { Clock } from '../../../src/core/ports.ts';
import type { CorrectionAnswer } from '../../../src/credits/corrections.types.ts';
import type { CreditTransaction } from '../../../src/credits/credits.types.ts';
import type { WrittenRows } from '../../../src/credits/dryRun.ts';
import { createLogger } from '../../../src/observability/logger.ts';
import { requestContext } from '../../../src/observability/requestContext.ts';
import { createMemoryRedis } from '../../../src/redis/memoryRedis.ts';
import { adminDomains } from './adminDomains.ts';
import { dunningDomain } from './dunningDomain.ts';
import { notificationDomains } from './notificationDomains.ts';
import { reconcileDomain } from './reconcileDomain.ts';
import { webhookDomains } from './webhookDomains.ts';

export const SERVICE_KEY = 'service-key-0123456789-0123456789-abcdef';
export const ADMIN_KEY = 'admin-key-0123456789-0123456789-abcdefgh';
export const CRON_SECRET = 'cron-secret-0123456789-0123456789-abcdef';
export const PUBLIC_URL = 'http://purser.test';

/** The environment of a server with real parts, as far as HTTP is concerned. */
export const BASE_ENV = {
  DATABASE_URL: 'postgresql://purser:pw@127.0.0.1:5432/purser',
  PUBLIC_URL,
  PURSER_SERVICE_KEY: SERVICE_KEY,
  PURSER_ADMIN_KEY: ADMIN_KEY,
  CRON_SECRET,
  LOG_LEVEL: 'debug',
};

/** The same with every part embedded: plain x-user-id counts. */
export const EMBEDDED_ENV = { ...BASE_ENV, DATABASE_URL: undefined };

export interface Call {
  name: string;
  args: unknown[];
}

export interface TestApp {
  app: Express;
  deps: AppDeps;
  /** Calls of the domains, in order. */
  calls: Call[];
  /** All that was logged so far. */
  log(): string;
}

export function transaction(overrides: Partial<CreditTransaction> = {}): CreditTransaction {
  return {
    id: '91',
    entry_number: 3,
    transaction_type: 'usage',
    amount: -5,
    balance_after: 45,
    description: null,
    idempotency_key: 'consume:k',
    reverses: null,
    reverses_transaction_id: null,
    stripe_session_id: null,
    stripe_payment_intent_id: null,
    stripe_invoice_id: null,
    metadata: {},
    event_at: '2026-11-21T10:00:00.000Z',
    created_at: '2026-11-21T10:00:00.000Z',
    ...overrides,
  };
}

type Domains = Pick<
  AppDeps,
  | 'credits'
  | 'explain'
  | 'holds'
  | 'corrections'
  | 'checkout'
  | 'subscriptions'
  | 'payments'
  | 'webhook'
  | 'eventLog'
  | 'replays'
  | 'missedEvents'
  | 'claims'
  | 'notifications'
  | 'alerts'
  | 'dunning'
  | 'audit'
  | 'adminUsers'
  | 'subscriptionHealth'
  | 'reconcile'
  | 'jobs'
>;

const NO_ROWS: WrittenRows = {
  entries: [],
  lots: [],
  holds: [],
  payments: [],
  users: [],
  sources: [],
  audit: [],
  findings: [],
};

function corrected(userId: string, amount: number): CorrectionAnswer {
  return {
    outcome: 'applied',
    transaction_id: '92',
    user_id: userId,
    amount,
    balance: 50,
    held: 0,
    available: 50,
    version: 9,
    lots: [{ grant_id: '12', amount: Math.abs(amount) }],
    created_at: '2026-11-21T10:00:00.000Z',
  };
}

/** Domains that answer as the real ones do in the simplest case; these tests are about HTTP. */
function simpleDomains(record: (name: string, ...args: unknown[]) => void): Domains {
  const as_of = '2026-11-21T10:00:00.000Z';
  const holdState = {
    hold_id: 'h_1',
    user_id: 'u1',
    status: 'open' as const,
    amount: 10,
    captured: 0,
    released: 0,
    remaining: 10,
    expires_at: as_of,
  };
  const account = { balance: 50, held: 10, available: 40, version: 8 };
  const holdAnswer = { ...holdState, transaction_id: null, ...account };
  const holdDetails = { ...holdState, description: null, metadata: {}, created_at: as_of };
  const run = (job: string) => ({
    job,
    outcome: 'done' as const,
    started_at: as_of,
    finished_at: as_of,
    result: {},
  });
  return {
    credits: {
      async balance(userId) {
        record('balance', userId);
        return {
          user_id: userId,
          balance: 50,
          held: 5,
          available: 45,
          debt: 0,
          version: 7,
          source: 'ledger',
          plan: 'free',
          expiring: [],
          next_grant: null,
          as_of,
        };
      },
      async check(request) {
        record('check', request);
        const { userId, amount } = request;
        const allowed = amount <= 45;
        return {
          user_id: userId,
          allowed,
          amount,
          balance: 50,
          held: 5,
          available: 45,
          version: 7,
          source: 'redis',
          reason: allowed ? null : 'insufficient_credits',
          buy_url: allowed ? null : `${PUBLIC_URL}/pricing`,
        };
      },
      async consume(request) {
        record('consume', request);
        return {
          answer: {
            outcome: 'applied',
            transaction_id: '91',
            user_id: request.userId,
            amount: request.amount,
            balance: 45,
            held: 0,
            available: 45,
            version: 8,
            lots: [{ grant_id: '12', amount: request.amount }],
            created_at: as_of,
          },
          replayed: request.idempotencyKey === 'replayed',
        };
      },
      async consumeBatch(requests) {
        record('consumeBatch', requests);
        return requests.map(({ idempotencyKey }, index) => ({
          index,
          idempotency_key: idempotencyKey,
          outcome: 'applied',
          transaction_id: '91',
          balance: 45,
          available: 45,
        }));
      },
      async drain() {},
      async transactions(filter) {
        record('transactions', filter);
        return { data: [transaction()], has_more: false, next_cursor: null };
      },
      async ensureUser(user) {
        record('ensureUser', user);
        return {
          user_id: user.userId,
          email: user.email ?? null,
          stripe_customer_id: user.stripeCustomerId ?? null,
          created: true,
        };
      },
    },
    corrections: {
      async refundUsage(request) {
        record('refundUsage', request);
        return { answer: corrected(request.userId, request.amount ?? 5), replayed: false };
      },
      async grant(request) {
        record('grant', request);
        const answer = { ...corrected(request.userId, request.amount), grant_id: '12' };
        return { answer, replayed: false };
      },
      async adjust(request, actor) {
        record('adjust', request, actor);
        return { answer: corrected(request.userId, request.amount), replayed: false };
      },
    },
    explain: {
      async explain(query) {
        record('explain', query);
        return {
          user_id: query.userId,
          closed: false,
          at: query.at ?? as_of,
          balance: 50,
          held: 5,
          available: 45,
          debt: 0,
          expired_unwritten: 0,
          entries: 1,
          truncated: false,
          lots: [
            {
              grant_id: '12',
              entry_number: 1,
              type: 'purchase',
              amount: 50,
              remaining: 50,
              expired_unwritten: 0,
              paid: true,
              from_plan: false,
              priority: 100,
              expires_at: null,
              created_at: as_of,
              cost_amount: 500,
              cost_currency: 'usd',
              catalogue_id: 'pack_50',
              price_id: 'price_1',
              sources: ['checkout:cs_1'],
              story: [{ entry_number: 1, type: 'purchase', amount: 50, at: as_of }],
            },
          ],
          debts: [],
          holds: [],
          expiring: [],
          stripe: [{ source: 'checkout:cs_1', entry_number: 1, at: as_of }],
          sentences: ['2026-11-21 10:00 UTC: bought pack_50, +50 credits, balance 50.'],
        };
      },
      async statement(filter) {
        record('statement', filter);
        return {
          user_id: filter.userId,
          from: filter.from ?? null,
          to: filter.to ?? as_of,
          opening_balance: 50,
          closing_balance: 45,
          totals: [{ transaction_type: 'usage', entries: 1, amount: -5 }],
          data: [transaction()],
          has_more: false,
          next_cursor: null,
        };
      },
    },
    holds: {
      async create(request) {
        record('createHold', request);
        return { answer: holdAnswer, replayed: request.idempotencyKey === 'replayed' };
      },
      async capture(request) {
        record('captureHold', request);
        return {
          answer: { ...holdAnswer, transaction_id: '92' },
          replayed: request.idempotencyKey === 'replayed',
        };
      },
      async release(holdId) {
        record('releaseHold', holdId);
        return holdAnswer;
      },
      async extend(request) {
        record('extendHold', request);
        return holdAnswer;
      },
      async get(holdId) {
        record('getHold', holdId);
        return holdDetails;
      },
      async listOpen(request) {
        record('listOpenHolds', request);
        return { data: [holdDetails], has_more: false, next_cursor: null };
      },
    },
    subscriptions: {
      async state(userId) {
        record('subscriptionState', userId);
        return {
          user_id: userId,
          status: 'active',
          plan: 'individual',
          tier: 'individual',
          current_period_start: as_of,
          current_period_end: as_of,
          cancel_at_period_end: false,
          cancel_at: null,
          trial_end: null,
          suspended: false,
          quotas: {},
          usage: { credits: 5 },
          cached: true,
          as_of,
        };
      },
    },
    checkout: {
      async pricing() {
        record('pricing');
        return { mode: 'local', currency: 'usd', packs: [], plans: [], as_of };
      },
      async createSession(request) {
        record('createSession', request);
        return {
          session_id: 'cs_test_1',
          url: 'https://checkout.stripe.com/c/pay/cs_test_1',
          mode: 'payment',
          plan: request.plan ?? 'pack_50',
          credits: 50,
          expires_at: as_of,
        };
      },
      async sessionStatus(request) {
        record('sessionStatus', request);
        if (request.sessionId === 'cs_unknown') {
          throw new PurserError('not_found', {
            detail: 'There is no checkout session cs_unknown.',
          });
        }
        const own = request.userId === null ? {} : { balance: 50 };
        return { session_id: request.sessionId, status: 'credited', credits: 50, ...own };
      },
      async fulfill(request) {
        record('fulfill', request);
        return { session_id: request.sessionId, status: 'credited', credits: 50 };
      },
      async portalSession(request) {
        record('portalSession', request);
        return { url: 'https://billing.stripe.com/p/session/1' };
      },
    },
    payments: {
      async state(payment) {
        record('paymentState', payment);
        return {
          payment,
          version: 1,
          user_id: 'u1',
          currency: 'usd',
          paid: 500,
          refunded: 0,
          disputed: 0,
          status: null,
          settlement: {
            transaction_id: '91',
            granted: 50,
            settled: 500,
            target: 0,
            clawed: 0,
            payments: [{ payment, paid: 500, refunded: 0, disputed: 0 }],
            entries: [],
          },
        };
      },
      async change({ payment, version, amounts, currency, status }, actor) {
        record('changePayment', payment, actor);
        return {
          outcome: 'applied',
          payment,
          version: version + 1,
          user_id: 'u1',
          currency: currency ?? null,
          ...amounts,
          status: status ?? null,
          transaction_id: '92',
          amount: -10,
        };
      },
    },
    webhook: {
      async receive(rawBody, signature) {
        record('receive', rawBody, signature);
        if (signature !== 'good') {
          throw new PurserError('invalid_signature', { detail: 'The signature does not fit.' });
        }
        return { received: true, duplicate: false };
      },
      async retry(request, actor) {
        record('retry', request, actor);
        return { matched: 1, requeued: 1, event_ids: ['evt_1'], replay_id: null, dry_run: false };
      },
      async idle() {},
    },
    ...webhookDomains(record),
    ...notificationDomains(record),
    dunning: dunningDomain(record),
    ...adminDomains(record),
    reconcile: reconcileDomain(record),
    jobs: {
      names: ['webhook-sweep'],
      async run(name, actor) {
        record('runJob', name, actor);
        if (name !== 'webhook-sweep') {
          throw new PurserError('not_found', { detail: `There is no job "${name}".` });
        }
        return run(name);
      },
      async list() {
        record('listJobs');
        return { as_of: '2026-11-20T12:00:00.000Z', jobs: [] };
      },
      async tick() {
        record('tick');
        return [run('webhook-sweep')];
      },
      start() {},
      async stop() {},
    },
  };
}

export interface TestAppOptions {
  env?: Record<string, string | undefined>;
  clock?: Clock;
  /** Replaces single members of the domains. */
  credits?: Partial<AppDeps['credits']>;
  explain?: Partial<AppDeps['explain']>;
  checkout?: Partial<AppDeps['checkout']>;
  webhook?: Partial<AppDeps['webhook']>;
  health?: Partial<AppDeps['health']>;
  staticDir?: string;
}

export function testApp(options: TestAppOptions = {}): TestApp {
  const { settings } = parseSettings({ ...BASE_ENV, ...options.env });
  const clock = options.clock ?? { now: () => new Date() };
  let lines = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines += chunk;
      done();
    },
  });
  const calls: Call[] = [];
  const domains = simpleDomains((name, ...args) => calls.push({ name, args }));
  const ok = async () => {};
  const deps: AppDeps = {
    settings,
    logger: createLogger({ level: 'debug', stream }),
    clock,
    requestContext,
    publicUrl: () => settings.http.publicUrl ?? PUBLIC_URL,
    redis: createMemoryRedis({ nowMs: () => clock.now().getTime() }),
    health: { database: ok, schema: ok, redis: ok, ...options.health },
    credits: { ...domains.credits, ...options.credits },
    explain: { ...domains.explain, ...options.explain },
    holds: domains.holds,
    corrections: domains.corrections,
    // As the real one, a dry run answers what the call would, without making it.
    dryRun: async (work) => ({ answer: await work(simpleDomains(() => {})), rows: NO_ROWS }),
    checkout: { ...domains.checkout, ...options.checkout },
    subscriptions: domains.subscriptions,
    payments: domains.payments,
    webhook: { ...domains.webhook, ...options.webhook },
    eventLog: domains.eventLog,
    replays: domains.replays,
    missedEvents: domains.missedEvents,
    claims: domains.claims,
    notifications: domains.notifications,
    alerts: domains.alerts,
    dunning: domains.dunning,
    audit: domains.audit,
    adminUsers: domains.adminUsers,
    subscriptionHealth: domains.subscriptionHealth,
    reconcile: domains.reconcile,
    jobs: domains.jobs,
    metrics: {
      render: async () => ({
        contentType: 'text/plain; version=0.0.4; charset=utf-8',
        body: 'purser 1\n',
      }),
    },
    catalogue: {
      cost(feature, units) {
        if (feature === 'image') return 5 * units;
        throw new PurserError('invalid_request', { detail: `There is no feature "${feature}".` });
      },
    },
    tokens: createTokenVerifier({ settings, clock }),
    lifecycle: createLifecycle(),
    staticDir: options.staticDir,
  };
  return { app: createApp(deps), deps, calls, log: () => lines };
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
