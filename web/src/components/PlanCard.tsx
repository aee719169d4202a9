import { useId } from 'react';
import type { Plan } from '../api.ts';
import { creditsPhrase, formatMoney } from '../money.ts';
import { Spinner } from './icons.tsx';
import { PortalButton } from './PortalButton.tsx';

interface PlanCardProps {
  plan: Plan;
  current: boolean;
  /** What the button does; `change` goes to the portal, since a second plan is not sold. */
  action: 'buy' | 'change' | 'sign-in' | 'wait';
  busy: boolean;
  /** Something else is on its way to Stripe. */
  blocked: boolean;
  onBuy(): void;
  onSignIn(): void;
}

/** A subscription of the catalogue. */
export function PlanCard({ plan, current, action, busy, blocked, onBuy, onSignIn }: PlanCardProps) {
  const headingId = useId();

  function press() {
    if (busy || blocked || action === 'wait') return;
    if (action === 'sign-in') onSignIn();
    else onBuy();
  }

  return (
    <article aria-labelledby={headingId} className="card flex flex-col gap-4 p-6">
      <div className="flex flex-wrap items-baseline justify-between gap-x-4">
        <h3 id={headingId} className="text-xl">
          {plan.name}
        </h3>
        {current && <p className="text-sm font-semibold text-accent">Your plan</p>}
      </div>
      <p className="tabular-nums">
        <span className="text-2xl font-semibold">
          {formatMoney(plan.unit_amount, plan.currency)}
        </span>
        <span className="text-muted"> per {plan.interval}</span>
      </p>
      <p className="text-muted">
        {creditsPhrase(plan.credits)} each {plan.interval}
      </p>
      <div className="mt-auto grid">
        {action === 'change' ? (
          <PortalButton label={current ? 'Manage your plan' : 'Change to this plan'} />
        ) : (
          <button
            type="button"
            className="button button-quiet border-brand text-brand"
            aria-disabled={busy || blocked}
            onClick={press}
          >
            {busy ? (
              <>
                <Spinner />
                Opening checkout…
              </>
            ) : action === 'sign-in' ? (
              `Sign in to subscribe to ${plan.name}`
            ) : (
              `Subscribe to ${plan.name}`
            )}
          </button>
        )}
      </div>
    </article>
  );
}
