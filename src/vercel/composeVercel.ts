import type express from 'express';
import { loadCatalogue } from '../catalogue/catalogue.ts';
import { assemble } from '../compose/assemble.ts';
import { openStripeAccount } from '../compose/openStripeAccount.ts';
import type { Settings } from '../config.ts';
import { type Logger, systemClock } from '../core/ports.ts';
import type { Metrics } from '../observability/metrics.ts';
import { noObservers } from '../observability/observers.ts';
import { guardRedis } from '../redis/guardedRedis.ts';
import { createUpstashRedis } from '../redis/upstashRedis.ts';
import { createSupabaseDatabase } from '../supabase/supabaseDatabase.ts';
import { waitUntil } from './waitUntil.ts';

/**
 * Purser as a function: Supabase, Upstash and Stripe over HTTP, nothing that runs by itself, the
 * work after an answer handed to the platform. Connects to nothing yet, so that a cold start waits
 * for nobody. `settings` come from loadVercelSettings, which has refused every other part.
 */
export function composeVercel(settings: Settings, logger: Logger): express.Express {
  const { supabase, upstash, http } = settings;
  if (supabase?.secretKey == null || upstash === null || http.publicUrl === null) {
    throw new TypeError('composeVercel needs the settings of loadVercelSettings');
  }
  const { publicUrl } = http;
  const store = createUpstashRedis(upstash);
  let metrics: Promise<Metrics> | undefined;
  const { app } = assemble({
    settings,
    logger,
    clock: systemClock,
    catalogue: loadCatalogue(settings.catalogue ?? undefined),
    database: {
      db: createSupabaseDatabase({ url: supabase.url, secretKey: supabase.secretKey, logger }),
    },
    redis: { store, guarded: guardRedis(store, { logger }) },
    stripe: openStripeAccount(settings),
    publicUrl: () => publicUrl,
    runAfterResponse: waitUntil,
    sweepAfterWebhooks: true,
    // An instance lives for minutes and is scraped by chance: only what the tables say counts here,
    // and its library (140 ms to load) waits for the first scrape.
    metrics: { observers: noObservers, open: () => (metrics ??= openMetrics()) },
  });
  return app;
}

async function openMetrics(): Promise<Metrics> {
  const { createMetrics } = await import('../observability/metrics.ts');
  return createMetrics(new Set());
}
