import type { ReactNode } from 'react';
import { Link } from 'wouter';
import type { Credits } from '../api.ts';
import { creditsPhrase, formatCredits, smallestPack } from '../money.ts';
import { usePricing } from '../queries.ts';
import { formatDate, formatUntil } from '../time.ts';
import { AlertIcon } from './icons.tsx';
import { PortalButton } from './PortalButton.tsx';

/** Low means less than this part of the smallest pack is left: there is no setting for it yet. */
const LOW_PART = 0.2;
const EXPIRING_SHOWN_MAX = 4;

export function BalanceCard({ credits }: { credits: Credits }) {
  const pricing = usePricing();
  const planName = pricing.data?.plans.find((plan) => plan.id === credits.plan)?.name;
  const smallest = smallestPack(pricing.data?.packs ?? []);
  const empty = credits.available <= 0;
  const low = !empty && smallest !== null && credits.available < smallest.credits * LOW_PART;

  return (
    <div className="card overflow-hidden">
      <div className="grid gap-6 p-6 sm:grid-cols-[1fr_auto] sm:p-8">
        <div>
          <p className="text-muted">Available to spend</p>
          <p className="mt-1 font-display text-6xl font-semibold tracking-tight tabular-nums">
            {formatCredits(credits.available)}
          </p>
          <dl className="mt-5 flex flex-wrap gap-x-8 gap-y-3">
            <Figure name="Balance" value={formatCredits(credits.balance)} />
            <Figure name="On hold" value={formatCredits(credits.held)} />
            {credits.debt !== 0 && <Figure name="Owed" value={formatCredits(credits.debt)} bad />}
            <Figure
              name="Plan"
              value={planName ?? (credits.plan === 'free' ? 'Free' : credits.plan)}
            />
          </dl>
        </div>
        <div className="flex flex-wrap content-start gap-3 *:flex-1 *:whitespace-nowrap sm:flex-col sm:*:flex-none">
          <Link href="/pricing" className="button button-primary">
            Buy more
          </Link>
          <PortalButton label="Invoices and cards" />
        </div>
      </div>
      {credits.debt !== 0 && (
        <Note bad>
          {creditsPhrase(credits.debt)} are owed after a refund or a dispute. Your next credits pay
          them back first.
        </Note>
      )}
      {empty && credits.debt === 0 && (
        <Note>You have no credits to spend. Buying a pack adds them within seconds.</Note>
      )}
      {low && <Note>Running low: {creditsPhrase(credits.available)} left.</Note>}
    </div>
  );
}

function Figure({ name, value, bad = false }: { name: string; value: string; bad?: boolean }) {
  return (
    <div>
      <dt className="text-sm text-muted">{name}</dt>
      <dd className={`text-lg font-semibold tabular-nums ${bad ? 'text-bad' : ''}`}>{value}</dd>
    </div>
  );
}

function Note({ bad = false, children }: { bad?: boolean; children: ReactNode }) {
  return (
    <p
      className={`flex items-start gap-2 border-t border-line px-6 py-3 sm:px-8 ${
        bad ? 'bg-bad-soft' : 'bg-accent-soft'
      }`}
    >
      <AlertIcon className={`mt-0.5 size-5 shrink-0 ${bad ? 'text-bad' : 'text-accent'}`} />
      <span>{children}</span>
    </p>
  );
}

/** Credits with an end, soonest first; nothing at all when none has one. */
export function ExpiringList({ credits }: { credits: Credits }) {
  const { expiring } = credits;
  if (expiring.length === 0) return null;
  const now = new Date(credits.as_of).getTime();
  const rest = expiring.length - EXPIRING_SHOWN_MAX;
  return (
    <section aria-labelledby="expiring" className="card p-6">
      <h2 id="expiring" className="text-xl">
        Expiring
      </h2>
      <ul className="mt-3 grid gap-2">
        {expiring.slice(0, EXPIRING_SHOWN_MAX).map((lot) => (
          <li key={lot.grant_id} className="flex flex-wrap justify-between gap-x-4">
            <span className="font-semibold tabular-nums">{creditsPhrase(lot.credits)}</span>
            <time dateTime={lot.expires_at} className="text-muted">
              {formatDate(lot.expires_at)}, {formatUntil(lot.expires_at, now)}
            </time>
          </li>
        ))}
      </ul>
      {rest > 0 && <p className="mt-2 text-sm text-muted">and {rest} more later</p>}
    </section>
  );
}
