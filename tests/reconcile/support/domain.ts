/** Reconciliation without a server around it; tests and benches use it. */
import { loadCatalogue } from '../../../src/catalogue/catalogue.ts';
import { createStripeCache } from '../../../src/checkout/stripeCache.ts';
import type { Clock, Logger } from '../../../src/core/ports.ts';
import { createMirror } from '../../../src/credits/mirror.ts';
import { createReconcile, type ReconcileDeps } from '../../../src/reconcile/reconcile.ts';
import type { Reconcile } from '../../../src/reconcile/reconcile.types.ts';
import { createMemoryRedis } from '../../../src/redis/memoryRedis.ts';
import type { Sandbox } from '../../../src/sandbox/index.ts';
import { createStripeClient } from '../../../src/stripe/stripeClient.ts';
import { createSubscriptionSettlement } from '../../../src/subscriptions/settleSubscription.ts';
import { createPgDatabase } from '../../../src/supabase/pgDatabase.ts';

/** Objects and entries are compared from an age of five minutes on. */
const AHEAD_MS = 600_000;
export const clockAhead: Clock = { now: () => new Date(Date.now() + AHEAD_MS) };

const silent: Logger = { error() {}, warn() {}, info() {}, debug() {} };

/** Reconciliation without a server around it, on the same database and sandbox. */
export function openDomain(
  { database, sandbox }: { database: { connectionString: string }; sandbox: Sandbox },
  more: Partial<ReconcileDeps> = {},
  clock: Clock = clockAhead,
): { reconcile: Reconcile; close(): Promise<void> } {
  const db = createPgDatabase({ connectionString: database.connectionString, logger: silent });
  const redis = createMemoryRedis({ nowMs: () => clock.now().getTime() });
  const runAfterResponse = () => {};
  const settlement = {
    db,
    stripe: createStripeClient({ secretKey: sandbox.secretKey, apiBase: sandbox.origin }),
    catalogue: loadCatalogue(undefined),
    clock,
    logger: silent,
    stripeCache: createStripeCache({ db, clock, logger: silent, runAfterResponse }),
  };
  const nowMs = () => clock.now().getTime();
  return {
    reconcile: createReconcile({
      ...settlement,
      redis,
      mirror: createMirror({ redis, logger: silent, nowMs, runAfterResponse }),
      subscriptions: createSubscriptionSettlement(settlement),
      livemode: false,
      pause: async () => {},
      ...more,
    }),
    close: () => db.close(),
  };
}
