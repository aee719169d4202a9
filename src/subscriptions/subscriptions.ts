import type { Catalogue } from '../catalogue/catalogue.ts';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import type { SubscriptionAnswer, Subscriptions } from './subscriptions.types.ts';

export interface SubscriptionsDeps {
  db: Database;
  catalogue: Catalogue;
}

/** As get_user_subscription_state answers; see sql/subscriptions_migration.sql. */
type StoredState = Omit<SubscriptionAnswer, 'quotas' | 'tier'> & {
  outcome: 'found' | 'not_found';
  tier: string | null;
};

export function createSubscriptions({ db, catalogue }: SubscriptionsDeps): Subscriptions {
  return {
    async state(userId) {
      const state = await db.rpc<StoredState>('get_user_subscription_state', {
        p_user_id: userId,
      });
      if (state.outcome === 'not_found') {
        throw new PurserError('user_not_found', { detail: `There is no user ${userId}.` });
      }
      const entry = catalogue.entry(state.plan);
      const plan = entry?.kind === 'plan' ? entry : null;
      return {
        user_id: state.user_id,
        status: state.status,
        plan: state.plan,
        tier: state.tier ?? plan?.tier ?? state.plan,
        current_period_start: state.current_period_start,
        current_period_end: state.current_period_end,
        cancel_at_period_end: state.cancel_at_period_end,
        cancel_at: state.cancel_at,
        trial_end: state.trial_end,
        suspended: state.suspended,
        quotas: (plan ?? catalogue.freePlan).quotas,
        usage: state.usage,
        cached: state.cached,
        as_of: state.as_of,
      };
    },
  };
}

/** Deletes cached states that have ended, and notes how many. Job `subscription_cache_cleanup`. */
export async function cleanSubscriptionCache(db: Database): Promise<{ deleted: number }> {
  return {
    deleted: Number(
      await db.rpc<number>('clear_expired_subscription_cache', {}, { idempotent: false }),
    ),
  };
}
