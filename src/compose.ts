import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type express from 'express';
import type { Lifecycle } from './api/lifecycle.ts';
import { loadCatalogue } from './catalogue/catalogue.ts';
import { assemble } from './compose/assemble.ts';
import { type OpenedDatabase, openDatabase } from './compose/openDatabase.ts';
import { openParts } from './compose/openParts.ts';
import { openRedis } from './compose/openRedis.ts';
import { openStripe } from './compose/openStripe.ts';
import { startWhenReady } from './compose/startWhenReady.ts';
import type { Settings } from './config.ts';
import { type Clock, type Logger, systemClock } from './core/ports.ts';
import { every } from './jobs/every.ts';
import type { Every } from './jobs/jobs.types.ts';
import { openMail } from './notifications/openMail.ts';
import { SUBSCRIBED_TYPES } from './webhook/subscribedTypes.ts';

export interface ComposeOptions {
  settings: Settings;
  logger: Logger;
  clock?: Clock;
  /** A database the caller has opened or is opening, in place of the one the settings choose. */
  database?: OpenedDatabase | Promise<OpenedDatabase>;
  /** The clock of the jobs; default: that of a long-running server. */
  every?: Every;
}

/** Everything Purser is, put together and not yet listening. */
export interface Purser {
  app: express.Express;
  lifecycle: Lifecycle;
  /** What was chosen for each part, one line each. */
  parts: [part: string, chosen: string][];
  /** Begins the work of a server that listens at that origin. */
  start(listeningAt: string): Promise<void>;
  /** Ends all work in order: jobs, spends, events under way, mirror, database, sandbox. */
  stop(): Promise<void>;
}

/** The composition root of a server: picks every part by the settings. */
export async function compose(options: ComposeOptions): Promise<Purser> {
  const { settings, logger, clock = systemClock } = options;
  const catalogue = loadCatalogue(settings.catalogue ?? undefined);
  const nowMs = () => clock.now().getTime();
  const loading = import('./observability/metrics.ts');
  const [database, stripe, redis] = await openParts([
    Promise.resolve(options.database ?? openDatabase(settings, logger)),
    openStripe(settings, catalogue, logger),
    openRedis(settings, { logger, nowMs }),
  ]);

  const metrics = (await loading).createMetrics(new Set(SUBSCRIBED_TYPES));

  let origin = settings.http.publicUrl ?? `http://${settings.http.host}:${settings.http.port}`;
  const { app, lifecycle, jobs, health, prices, drain } = assemble({
    settings,
    logger,
    clock,
    catalogue,
    database,
    redis,
    stripe,
    publicUrl: () => origin,
    // The process lives on; the drain waits for what is under way.
    runAfterResponse: () => {},
    sweepAfterWebhooks: false,
    metrics: { observers: metrics.observers, open: async () => metrics },
    staticDir: path.join(path.dirname(fileURLToPath(import.meta.url)), WEB_DIR),
  });
  let waiting: ReturnType<typeof startWhenReady> | null = null;

  return {
    app,
    lifecycle,
    parts: [
      ['database', database.description],
      ['redis', redis.description],
      ['stripe', stripe.description],
      ['mail', openMail(settings.mail).description],
    ],
    async start(listeningAt) {
      origin = settings.http.publicUrl ?? listeningAt;
      await stripe.announce(listeningAt);
      waiting = startWhenReady({ settings, health, stripe: () => prices.pricing(), logger }, () =>
        jobs.start(options.every ?? every),
      );
      await waiting.heard;
    },
    async stop() {
      waiting?.stop();
      await jobs.stop();
      await drain();
      for (const part of [redis, stripe, database]) await part.stop();
    },
  };
}

/** Where the built pages are, seen from this file both as built and as source. */
const WEB_DIR = import.meta.url.endsWith('.ts') ? '../dist/web' : 'web';
