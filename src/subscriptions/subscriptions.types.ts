/** The subscription domain as the API sees it, in the shapes of the HTTP contract. */

export interface SubscriptionAnswer {
  user_id: string;
  /** As Stripe names it; `none` = never subscribed. */
  status: string;
  /** Catalogue id; the free plan without a subscription. */
  plan: string;
  tier: string;
  current_period_start: string | null;
  current_period_end: string | null;
  cancel_at_period_end: boolean;
  /** When it ends, where that is planned. */
  cancel_at: string | null;
  trial_end: string | null;
  /** True while credits of the plan are blocked, because a payment failed. */
  suspended: boolean;
  quotas: Record<string, number>;
  /** Of the current period; without a subscription of the calendar month in UTC. */
  usage: Record<string, number>;
  /** True when it was answered from the five-minute cache. */
  cached: boolean;
  as_of: string;
}

export interface Subscriptions {
  /** Errors: `user_not_found`, `dependency_down`. */
  state(userId: string): Promise<SubscriptionAnswer>;
}
