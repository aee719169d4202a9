import type { StripeCache } from '../checkout/stripeCache.ts';
import type { Database, RedisStore } from '../core/ports.ts';
import { checkConsistency } from '../credits/checkConsistency.ts';
import { expireDueCredits, sealCreditEntries } from '../credits/ledger.ts';
import { createMirrorRepair } from '../credits/repairMirror.ts';
import { cleanSubscriptionCache } from '../subscriptions/subscriptions.ts';
import type { ProcessDeps } from '../webhook/process.ts';
import { sweepInbox } from '../webhook/sweep.ts';
import type { Job } from './jobs.ts';

export interface RegistryDeps {
  db: Database;
  /** The store itself: jobs work in batches, which take longer than a request may wait. */
  redis: RedisStore;
  processing: ProcessDeps;
  stripeCache: StripeCache;
}

const EXPIRY_PAGE = 200;
const SEAL_PAGE = 500;

/** Every job there is, with its pace. */
export function jobRegistry({ db, redis, processing, stripeCache }: RegistryDeps): Job[] {
  const { logger, clock } = processing;
  const nowMs = () => clock.now().getTime();
  const mirrorRepair = createMirrorRepair({ db, redis, logger, nowMs });
  return [
    {
      name: 'webhook-sweep',
      everySeconds: 2,
      leaseSeconds: 90,
      maxRunSeconds: 30,
      run: (shouldStop) => sweepInbox(processing, shouldStop),
    },
    {
      name: 'mirror-repair',
      everySeconds: 1,
      leaseSeconds: 60,
      maxRunSeconds: 20,
      perProcess: redis.kind === 'memory',
      run: async (shouldStop) => ({ ...(await mirrorRepair.run(shouldStop)) }),
    },
    {
      name: 'expire-credits',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      async run(shouldStop) {
        let users = 0;
        let more = true;
        while (more && !shouldStop()) {
          const page = await expireDueCredits(db, EXPIRY_PAGE);
          users += page.users;
          more = page.more;
        }
        return { users };
      },
    },
    {
      name: 'seal-ledger',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      async run(shouldStop) {
        let entries = 0;
        let more = true;
        while (more && !shouldStop()) {
          const page = await sealCreditEntries(db, SEAL_PAGE);
          entries += page.entries;
          more = page.more;
        }
        return { entries };
      },
    },
    {
      name: 'consistency-check',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 30,
      run: (shouldStop) => checkConsistency({ db, logger }, shouldStop),
    },
    {
      name: 'subscription_cache_cleanup',
      everySeconds: 300,
      leaseSeconds: 60,
      maxRunSeconds: 30,
      run: () => cleanSubscriptionCache(db),
    },
    {
      // Each process renews what its own readers use; the table is shared.
      name: 'cache-warm',
      everySeconds: 60,
      leaseSeconds: 60,
      maxRunSeconds: 30,
      perProcess: true,
      run: () => stripeCache.warm(),
    },
  ];
}
