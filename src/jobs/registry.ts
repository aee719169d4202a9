import { setTimeout as pause } from 'node:timers/promises';
import type { StripeCache } from '../checkout/stripeCache.ts';
import type { Database, RedisStore } from '../core/ports.ts';
import { checkConsistency, checkEverything } from '../credits/checkConsistency.ts';
import { expireDueCredits, sealCreditEntries } from '../credits/ledger.ts';
import { createMirrorRepair } from '../credits/repairMirror.ts';
import { type DunningDeps, runDunning } from '../dunning/runDunning.ts';
import { forgetMessages } from '../notifications/outbox.ts';
import type { Reconcile, ReconciliationAnswer } from '../reconcile/reconcile.types.ts';
import { cleanSubscriptionCache } from '../subscriptions/subscriptions.ts';
import { deleteOldEvents } from '../webhook/inbox.ts';
import { MISSED_EVENTS, type MissedEvents } from '../webhook/missedEvents.ts';
import type { ProcessDeps } from '../webhook/process.ts';
import { runReplays } from '../webhook/replays.ts';
import { sweepInbox } from '../webhook/sweep.ts';
import type { Job } from './job.ts';
import { pages } from './pages.ts';

export interface RegistryDeps {
  db: Database;
  /** The store itself: jobs work in batches, which take longer than a request may wait. */
  redis: RedisStore;
  processing: ProcessDeps;
  stripeCache: StripeCache;
  missedEvents: Pick<MissedEvents, 'run'>;
  outbox: {
    send(shouldStop: () => boolean): Promise<Record<string, number>>;
    writeBalanceNotices(shouldStop: () => boolean): Promise<Record<string, number>>;
  };
  dunning: DunningDeps;
  health: { check(): Promise<object> };
  reconcile: Pick<Reconcile, 'run' | 'resume'>;
  /** Whether the clean-up spares events that wrote entries. */
  keepPayloads: boolean;
}

const EXPIRY_PAGE = 200;
const SEAL_PAGE = 500;
const CLEANUP_DAYS = 90;
/** What a message said and to whom is of use for as long as somebody may still ask about it. */
const MESSAGE_DAYS = 90;
const CLEANUP_PAGE = 1000;

/** Every job there is, with its pace. */
export function jobRegistry(deps: RegistryDeps): Job[] {
  const {
    db,
    redis,
    processing,
    stripeCache,
    missedEvents,
    outbox,
    dunning,
    health,
    reconcile,
    keepPayloads,
  } = deps;
  const { logger, clock } = processing;
  const nowMs = () => clock.now().getTime();
  const mirrorRepair = createMirrorRepair({ db, redis, logger, nowMs });
  return [
    {
      // Before the sweep, so that a tick also works on what it puts back.
      name: 'webhook-replay',
      everySeconds: 2,
      leaseSeconds: 60,
      maxRunSeconds: 30,
      run: (shouldStop) => runReplays(db, shouldStop),
    },
    {
      // Stripe itself delivers again for three days; this is for what it gives up, and for endpoints
      // that were switched off.
      name: MISSED_EVENTS,
      everySeconds: 900,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      run: async (shouldStop) => ({ ...(await missedEvents.run(shouldStop)) }),
    },
    {
      name: 'webhook-sweep',
      everySeconds: 2,
      leaseSeconds: 90,
      maxRunSeconds: 30,
      run: (shouldStop) => sweepInbox(processing, shouldStop),
    },
    {
      // Steps are days apart; the first mail of a case goes out with its event.
      name: 'dunning',
      everySeconds: 300,
      leaseSeconds: 180,
      maxRunSeconds: 60,
      run: async (shouldStop) => ({ ...(await runDunning(dunning, shouldStop)) }),
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
      // Before the sending, so that a tick also sends what it finds.
      name: 'balance-notices',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 30,
      run: (shouldStop) => outbox.writeBalanceNotices(shouldStop),
    },
    {
      // A last batch may still wait for a mail server that hangs.
      name: 'notifications',
      everySeconds: 5,
      leaseSeconds: 120,
      maxRunSeconds: 30,
      run: (shouldStop) => outbox.send(shouldStop),
    },
    {
      name: 'expire-credits',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      run: pages('users', async () => {
        const { users, more } = await expireDueCredits(db, EXPIRY_PAGE);
        return { count: users, more };
      }),
    },
    {
      name: 'seal-ledger',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      run: pages('entries', async () => {
        const { entries, more } = await sealCreditEntries(db, SEAL_PAGE);
        return { count: entries, more };
      }),
    },
    {
      name: 'consistency-check',
      everySeconds: 60,
      leaseSeconds: 120,
      maxRunSeconds: 30,
      run: (shouldStop) => checkConsistency({ db, logger }, shouldStop),
    },
    {
      name: 'reconcile',
      everySeconds: 6 * 3_600,
      leaseSeconds: 360,
      maxRunSeconds: 300,
      run: async (shouldStop) => summaryOf(await reconcile.run({}, 'purser', shouldStop)),
    },
    {
      // What a run had no time for, or Stripe no answer, does not wait for six hours.
      name: 'reconcile-resume',
      everySeconds: 60,
      leaseSeconds: 360,
      maxRunSeconds: 300,
      run: async (shouldStop) => summaryOf(await reconcile.resume(shouldStop)),
    },
    {
      // The whole ledger and every copy in Redis, over as many runs as it takes.
      name: 'consistency-full',
      everySeconds: 60,
      calendar: { day: 1, hour: 4 },
      leaseSeconds: 120,
      maxRunSeconds: 50,
      run: (shouldStop, context) =>
        checkEverything({ db, redis, logger, nowMs, pause }, shouldStop, context),
    },
    {
      name: 'health-check',
      everySeconds: 3_600,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      run: async () => ({ ...(await health.check()) }),
    },
    {
      name: 'subscription_cache_cleanup',
      everySeconds: 300,
      leaseSeconds: 60,
      maxRunSeconds: 30,
      run: () => cleanSubscriptionCache(db),
    },
    {
      name: 'cleanup-events',
      everySeconds: 60,
      calendar: { weekday: 0, hour: 3 },
      leaseSeconds: 120,
      maxRunSeconds: 60,
      run: pages('deleted', async () => {
        const { deleted } = await deleteOldEvents(db, CLEANUP_DAYS, keepPayloads, CLEANUP_PAGE);
        return { count: deleted, more: deleted === CLEANUP_PAGE };
      }),
    },
    {
      name: 'cleanup-notifications',
      everySeconds: 86_400,
      leaseSeconds: 120,
      maxRunSeconds: 60,
      run: pages('forgotten', async () => {
        const { forgotten } = await forgetMessages(db, MESSAGE_DAYS, CLEANUP_PAGE);
        return { count: forgotten, more: forgotten === CLEANUP_PAGE };
      }),
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

/** What stays in the job's row; the run's own row has the rest. */
function summaryOf(answer: ReconciliationAnswer): Record<string, unknown> {
  const { differences, progress, ...summary } = answer;
  return summary;
}
