import type express from 'express';
import { createAudit } from '../admin/audit.ts';
import { createHealth } from '../admin/health.ts';
import { createAdminUsers } from '../admin/users.ts';
import { createApp } from '../api/app.ts';
import type { HealthChecks, Money } from '../api/deps.ts';
import { createTokenVerifier } from '../api/identity/tokens.ts';
import { createLifecycle, type Lifecycle } from '../api/lifecycle.ts';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { createCheckout } from '../checkout/checkout.ts';
import { createPrices, type Prices } from '../checkout/prices.ts';
import { settleInvoice } from '../checkout/settleInvoice.ts';
import { createStripeCache } from '../checkout/stripeCache.ts';
import type { Settings } from '../config.ts';
import type { Clock, Database, Logger, RunAfterResponse } from '../core/ports.ts';
import { createCorrections } from '../credits/corrections.ts';
import { createCredits } from '../credits/credits.ts';
import { createDryRun } from '../credits/dryRun.ts';
import { applyEffects } from '../credits/effects.ts';
import { createExplain } from '../credits/explain.ts';
import { createHolds } from '../credits/holds.ts';
import { createMirror, type Mirror } from '../credits/mirror.ts';
import { createPayments } from '../credits/payments.ts';
import { createDunning } from '../dunning/cases.ts';
import type { DunningDeps } from '../dunning/runDunning.ts';
import { createJobs, type JobRegistry } from '../jobs/jobs.ts';
import { jobRegistry } from '../jobs/registry.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { OperationsState } from '../observability/metrics.types.ts';
import { observeRedis } from '../observability/observedRedis.ts';
import type { Observers } from '../observability/observers.ts';
import { requestContext } from '../observability/requestContext.ts';
import { createReconcile } from '../reconcile/reconcile.ts';
import { createSubscriptionSettlement } from '../subscriptions/settleSubscription.ts';
import { createSubscriptions } from '../subscriptions/subscriptions.ts';
import { createClaims } from '../webhook/claims.ts';
import { createEventLog } from '../webhook/eventLog.ts';
import { createMissedEvents } from '../webhook/missedEvents.ts';
import { createOwnAccount } from '../webhook/ownAccount.ts';
import type { ProcessDeps } from '../webhook/process.ts';
import { createReplays } from '../webhook/replays.ts';
import { SUBSCRIBED_TYPES } from '../webhook/subscribedTypes.ts';
import { sweepAfterReceipt } from '../webhook/sweepAfterReceipt.ts';
import { createWebhook } from '../webhook/webhook.ts';
import type { OpenedDatabase } from './openDatabase.ts';
import { openNotifications } from './openNotifications.ts';
import type { OpenedRedis } from './openRedis.ts';
import type { OpenedStripe } from './openStripe.ts';
import { checkSchema } from './schema.ts';

export interface AssembleOptions {
  settings: Settings;
  logger: Logger;
  clock: Clock;
  catalogue: Catalogue;
  /** Opened, and stopped, by the caller. */
  database: Pick<OpenedDatabase, 'db'>;
  redis: Pick<OpenedRedis, 'store' | 'guarded'>;
  stripe: Pick<OpenedStripe, 'stripe' | 'account' | 'webhookSecrets' | 'formOrigins'>;
  /** Without a slash at the end. */
  publicUrl: () => string;
  runAfterResponse: RunAfterResponse;
  /** True where no process of its own runs the jobs, so that webhooks have to. */
  sweepAfterWebhooks: boolean;
  /** Folder of the web pages, where this process serves them. */
  staticDir?: string;
  metrics: {
    observers: Observers;
    /** The registry; a process that counts nothing makes it when it is asked for the first time. */
    open(): Promise<Metrics>;
  };
}

/** Purser upon the parts it was given; nothing runs by itself yet. */
export interface Assembly {
  app: express.Express;
  lifecycle: Lifecycle;
  health: HealthChecks;
  jobs: JobRegistry;
  prices: Prices;
  /**
   * Takes no more spends, and resolves when what requests have begun has ended: spends, events
   * under way, copies to Redis.
   */
  drain(): Promise<void>;
}

/**
 * Puts domains and API together. It imports no adapter, so that a bundle holds only those which
 * its entry has chosen.
 */
export function assemble(options: AssembleOptions): Assembly {
  const { settings, logger, clock, catalogue, publicUrl, runAfterResponse } = options;
  const { db } = options.database;
  const { stripe, account, webhookSecrets, formOrigins } = options.stripe;
  const { observers } = options.metrics;
  const redis = observeRedis(options.redis.guarded, observers.redis);
  const nowMs = () => clock.now().getTime();
  const mirror = createMirror({ redis, logger, nowMs, runAfterResponse });
  const buyUrl = () => `${publicUrl()}/pricing`;
  const moneyOver = (database: Database, copies: Mirror): Money => {
    const deps = { db: database, mirror: copies, buyUrl };
    const { welcomeCredits } = catalogue.freePlan;
    return {
      credits: createCredits({
        ...deps,
        runAfterResponse,
        welcomeCredits,
        observeCall: observers.spendCall,
      }),
      holds: createHolds(deps),
      corrections: createCorrections(deps),
      payments: createPayments(deps),
    };
  };
  const money = moneyOver(db, mirror);
  const { credits } = money;
  const stripeCache = createStripeCache({ db, clock, logger, runAfterResponse });
  const prices = createPrices({
    cache: stripeCache,
    account,
    stripe,
    catalogue,
    mode: settings.mode,
    clock,
    logger,
  });
  const settlement = { db, stripe, catalogue, clock, logger, stripeCache };
  const shared = {
    ...settlement,
    redis,
    mirror,
    subscriptions: createSubscriptionSettlement(settlement),
  };
  const processing: ProcessDeps = {
    ...shared,
    livemode: settings.mode === 'live',
    ownAccount: createOwnAccount({ stripe, clock, logger }),
    random: Math.random,
    observeEvent: observers.event,
  };
  const received = createWebhook({
    ...processing,
    runAfterResponse,
    observeDelivery: observers.delivery,
    secrets: webhookSecrets,
    toleranceSeconds: settings.stripe.webhookToleranceSeconds,
  });
  const webhook = options.sweepAfterWebhooks
    ? sweepAfterReceipt(received, { ...processing, runAfterResponse })
    : received;
  const checkout = createCheckout({
    ...shared,
    credits,
    prices,
    publicUrl,
    returnOrigins: [...settings.http.returnOrigins],
  });
  const missedEvents = createMissedEvents({
    db,
    stripe,
    clock,
    logger,
    types: new Set(SUBSCRIBED_TYPES),
  });
  const outbox = openNotifications({ settings, db, logger, stripe, catalogue, publicUrl });
  const dunning: DunningDeps = {
    db,
    stripe,
    catalogue,
    clock,
    logger,
    random: Math.random,
    settleInvoice: (invoiceId, at) => settleInvoice(shared, invoiceId, at),
    apply: (effects) => applyEffects({ db, redis, mirror, logger }, null, effects),
  };
  const subscriptionHealth = createHealth({ db, redis, alerts: outbox.alerts, logger });
  const reconcile = createReconcile({
    ...shared,
    redis: options.redis.store,
    livemode: settings.mode === 'live',
  });
  const jobs = createJobs(
    { db, clock, logger, observe: observers.job },
    jobRegistry({
      processing,
      db,
      redis: options.redis.store,
      stripeCache,
      missedEvents,
      outbox,
      dunning,
      health: subscriptionHealth,
      reconcile,
      keepPayloads: settings.keepPayloads,
    }),
  );
  const lifecycle = createLifecycle();
  const health: HealthChecks = {
    database: () => db.ping(),
    schema: () => checkSchema(db),
    redis: () => redis.ping(),
  };
  const scrape = {
    logger,
    cacheCounts: () => stripeCache.counts(),
    async readState(): Promise<OperationsState> {
      const [state, { health_score, mirror_lag_seconds }] = await Promise.all([
        db.rpc<Omit<OperationsState, 'health_score' | 'mirror_lag_seconds'>>('operations_metrics'),
        subscriptionHealth.report(),
      ]);
      return { ...state, health_score, mirror_lag_seconds };
    },
  };
  const app = createApp({
    settings,
    logger,
    clock,
    requestContext,
    publicUrl,
    formOrigins,
    health,
    redis,
    ...money,
    dryRun: createDryRun(db, moneyOver),
    explain: createExplain({ db }),
    subscriptions: createSubscriptions({ db, catalogue }),
    checkout,
    webhook,
    eventLog: createEventLog({ db }),
    replays: createReplays({ db }),
    missedEvents,
    claims: createClaims({ db, publicUrl }),
    notifications: outbox.notifications,
    alerts: outbox.alerts,
    dunning: createDunning(dunning),
    audit: createAudit({ db }),
    adminUsers: createAdminUsers({ db, redis }),
    subscriptionHealth,
    reconcile,
    jobs,
    metrics: {
      render: async () => (await options.metrics.open()).render(scrape),
    },
    observeRequest: observers.request,
    catalogue,
    tokens: createTokenVerifier({ settings, clock }),
    lifecycle,
    staticDir: options.staticDir,
  });
  return {
    app,
    lifecycle,
    health,
    jobs,
    prices,
    async drain() {
      await credits.drain();
      await webhook.idle();
      await mirror.idle();
    },
  };
}
