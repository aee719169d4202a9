import { useId } from 'react';
import type { Plan } from '../api.ts';
import { creditsPhrase, formatMoney } from '../money.ts';

interface PlanCardProps {
  plan: Plan;
  current: boolean;
}

/** A subscription as the catalogue describes it; it cannot be bought yet, so it has no button. */
export function PlanCard({ plan, current }: PlanCardProps) {
  const headingId = useId();
  return (
    <article
      aria-labelledby={headingId}
      className="flex flex-wrap items-baseline justify-between gap-x-4 gap-y-1 rounded-card border border-dashed border-line p-5"
    >
      <h3 id={headingId} className="text-xl">
        {plan.name}
      </h3>
      <p className="text-sm font-semibold text-muted">{current ? 'Your plan' : 'Coming soon'}</p>
      <p className="w-full tabular-nums">
        <span className="font-semibold">{formatMoney(plan.unit_amount, plan.currency)}</span>
        <span className="text-muted"> per {plan.interval}</span>
      </p>
      <p className="w-full text-sm text-muted">
        {creditsPhrase(plan.credits)} each {plan.interval}
      </p>
    </article>
  );
}
