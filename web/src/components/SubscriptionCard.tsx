import type { Subscription } from '../api.ts';
import { creditsPhrase } from '../money.ts';
import { usePricing, useSubscription } from '../queries.ts';
import { formatDate } from '../time.ts';
import { AlertIcon } from './icons.tsx';
import { PortalButton } from './PortalButton.tsx';
import { Problem } from './Problem.tsx';

const ENDED = new Set(['none', 'canceled', 'incomplete_expired', 'incomplete']);

/** The running subscription; nothing at all for those without one, whom the plans are offered. */
export function SubscriptionCard() {
  const subscription = useSubscription();
  if (subscription.isError) {
    return (
      <Problem
        error={subscription.error}
        title="Your plan could not be loaded"
        onRetry={() => void subscription.refetch()}
        retrying={subscription.isFetching}
      />
    );
  }
  if (!subscription.data || ENDED.has(subscription.data.status)) return null;
  return <Running subscription={subscription.data} />;
}

function Running({ subscription }: { subscription: Subscription }) {
  const pricing = usePricing();
  const plan = pricing.data?.plans.find(({ id }) => id === subscription.plan);
  const { usage, suspended } = subscription;
  return (
    <section aria-labelledby="plan" className="card overflow-hidden">
      <div className="flex flex-wrap items-center justify-between gap-4 p-6">
        <div>
          <h2 id="plan" className="text-xl">
            {plan?.name ?? subscription.plan} plan
          </h2>
          <p className="mt-1 text-muted">{standing(subscription)}</p>
          {usage.credits !== undefined && (
            <p className="mt-1 text-sm text-muted tabular-nums">
              {creditsPhrase(usage.credits)} used in this period
            </p>
          )}
        </div>
        <PortalButton label="Change or cancel" />
      </div>
      {suspended && (
        <p className="flex items-start gap-2 border-t border-line bg-bad-soft px-6 py-3">
          <AlertIcon className="mt-0.5 size-5 shrink-0 text-bad" />
          <span>
            The last payment failed. Credits of the plan wait until it is paid; credits you bought
            can be spent.
          </span>
        </p>
      )}
    </section>
  );
}

function standing({
  status,
  current_period_end: end,
  cancel_at_period_end: ends,
  cancel_at: cancelAt,
  trial_end: trialEnd,
}: Subscription): string {
  if (status === 'paused') return 'Paused. Resume it any time.';
  const last = cancelAt ?? (ends ? end : null);
  if (last !== null) return `Ends on ${formatDate(last)}.`;
  if (status === 'trialing' && trialEnd !== null) return `Trial until ${formatDate(trialEnd)}.`;
  return end === null ? '' : `Renews on ${formatDate(end)}.`;
}
