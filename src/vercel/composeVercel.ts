import type express from 'express';
import { loadCatalogue } from '../catalogue/catalogue.ts';
import { assemble } from '../compose/assemble.ts';
import { openStripeAccount } from '../compose/openStripeAccount.ts';
import type { Settings } from '../config.ts';
import { type Logger, systemClock } from '../core/ports.ts';
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
  });
  return app;
}
