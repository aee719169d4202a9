/** Dunning over the parts of a test, without server and job lease: several may run at once. */
import { type Catalogue, createCatalogue } from '../../src/catalogue/catalogue.ts';
import { settleInvoice } from '../../src/checkout/settleInvoice.ts';
import { createStripeCache } from '../../src/checkout/stripeCache.ts';
import type { Database, Logger } from '../../src/core/ports.ts';
import { applyEffects } from '../../src/credits/effects.ts';
import { createMirror } from '../../src/credits/mirror.ts';
import type { DunningDeps } from '../../src/dunning/runDunning.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createSubscriptionSettlement } from '../../src/subscriptions/settleSubscription.ts';
import { CATALOGUE, type DunningWorld } from './dunningWorld.ts';

const silent: Logger = { error() {}, warn() {}, info() {}, debug() {} };

export function worker(world: DunningWorld, db: Database): DunningDeps {
  const { stripe, clock } = world;
  const catalogue: Catalogue = createCatalogue(CATALOGUE);
  const logger = silent;
  const runAfterResponse = () => {};
  const base = {
    db,
    stripe,
    catalogue,
    clock,
    logger,
    stripeCache: createStripeCache({ db, clock, logger, runAfterResponse }),
  };
  const shared = { ...base, subscriptions: createSubscriptionSettlement(base) };
  const nowMs = () => clock.now().getTime();
  const redis = createMemoryRedis({ nowMs });
  const mirror = createMirror({ redis, logger, nowMs, runAfterResponse });
  return {
    ...base,
    random: () => 0.5,
    settleInvoice: (invoiceId, at) => settleInvoice(shared, invoiceId, at),
    apply: (effects) => applyEffects({ db, redis, mirror, logger }, null, effects),
  };
}
