import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type express from 'express';
import { createApp } from './api/app.ts';
import { createTokenVerifier } from './api/identity/tokens.ts';
import { createLifecycle, type Lifecycle } from './api/lifecycle.ts';
import { loadCatalogue } from './catalogue/catalogue.ts';
import { createCheckout } from './checkout/checkout.ts';
import { createPrices } from './checkout/prices.ts';
import { type OpenedDatabase, openDatabase } from './compose/openDatabase.ts';
import { openRedis } from './compose/openRedis.ts';
import { openStripe } from './compose/openStripe.ts';
import { checkSchema } from './compose/schema.ts';
import type { Settings } from './config.ts';
import { type Clock, type Logger, systemClock } from './core/ports.ts';
import { createCredits } from './credits/credits.ts';
import { createMirror } from './credits/mirror.ts';
import { createJobs, type JobRegistry } from './jobs/jobs.ts';
import { jobRegistry } from './jobs/registry.ts';
import { requestContext } from './observability/requestContext.ts';
import type { ProcessDeps } from './webhook/process.ts';
import { createWebhook } from './webhook/webhook.ts';

export interface ComposeOptions {
  settings: Settings;
  logger: Logger;
  clock?: Clock;
  /** A database opened by the caller, in place of the one the settings choose. */
  database?: OpenedDatabase;
}

/** Everything Purser is, put together and not yet listening. */
export interface Purser {
  app: express.Express;
  lifecycle: Lifecycle;
  /** What was chosen for each part, one line each. */
  parts: [part: string, chosen: string][];
  /** Begins the work of a server that listens at that origin. */
  start(listeningAt: string): Promise<void>;
  /** Ends all work in order: jobs, events under way, mirror, database, sandbox. */
  stop(): Promise<void>;
}

/** The composition root: the only place that picks implementations. */
export async function compose(options: ComposeOptions): Promise<Purser> {
  const { settings, logger, clock = systemClock } = options;
  const catalogue = loadCatalogue(settings.catalogue ?? undefined);
  const database = options.database ?? (await openDatabase(settings, logger));
  const { db } = database;
  const nowMs = () => clock.now().getTime();
  const opened = await openStripe(settings, catalogue, logger).catch(async (error: unknown) => {
    await database.stop();
    throw error;
  });
  const openedRedis = await openRedis(settings, { logger, nowMs }).catch(async (error: unknown) => {
    await opened.stop();
    await database.stop();
    throw error;
  });
  const { stripe, webhookSecrets } = opened;

  let origin = settings.http.publicUrl ?? `http://${settings.http.host}:${settings.http.port}`;
  const publicUrl = () => origin;
  const redis = openedRedis.guarded;
  const mirror = createMirror({ redis, logger, nowMs });
  const credits = createCredits({ db, mirror, buyUrl: () => `${publicUrl()}/pricing` });
  const prices = createPrices({ stripe, catalogue, mode: settings.mode, clock, logger });
  const shared = { db, redis, mirror, stripe, catalogue, clock, logger };
  const processing: ProcessDeps = {
    ...shared,
    livemode: settings.mode === 'live',
    random: Math.random,
  };
  const webhook = createWebhook({
    ...processing,
    secrets: webhookSecrets,
    toleranceSeconds: settings.stripe.webhookToleranceSeconds,
  });
  const checkout = createCheckout({
    ...shared,
    credits,
    prices,
    publicUrl,
    returnOrigins: [...settings.http.returnOrigins],
  });
  const jobs: JobRegistry = createJobs(
    { db, clock, logger },
    jobRegistry({ processing, db, redis: openedRedis.store }),
  );
  const lifecycle = createLifecycle();
  const app = createApp({
    settings,
    logger,
    clock,
    requestContext,
    publicUrl,
    formOrigins: opened.formOrigins,
    health: {
      database: () => db.ping(),
      schema: () => checkSchema(db),
      redis: () => redis.ping(),
    },
    credits,
    checkout,
    webhook,
    jobs,
    catalogue,
    tokens: createTokenVerifier({ settings, clock }),
    lifecycle,
    staticDir: path.join(path.dirname(fileURLToPath(import.meta.url)), WEB_DIR),
  });

  return {
    app,
    lifecycle,
    parts: [
      ['database', database.description],
      ['redis', openedRedis.description],
      ['stripe', opened.description],
    ],
    async start(listeningAt) {
      origin = settings.http.publicUrl ?? listeningAt;
      await opened.announce(listeningAt);
      jobs.start();
    },
    async stop() {
      await jobs.stop();
      await webhook.idle();
      await mirror.idle();
      await openedRedis.stop();
      await opened.stop();
      await database.stop();
    },
  };
}

/** Where the built pages are, seen from this file both as built and as source. */
const WEB_DIR = import.meta.url.endsWith('.ts') ? '../dist/web' : 'web';
