import { useId, useState } from 'react';
import type { Pack } from '../api.ts';
import {
  creditsPhrase,
  formatCredits,
  formatMoney,
  formatPerCredit,
  formatPercent,
  savingPercent,
} from '../money.ts';
import { Spinner } from './icons.tsx';
import { QuantityStepper } from './QuantityStepper.tsx';

interface PackCardProps {
  pack: Pack;
  /** The pack that savings are compared with. */
  smallest: Pack;
  best: boolean;
  /** What the button does: buy, or say how to sign in. */
  action: 'buy' | 'sign-in' | 'wait';
  busy: boolean;
  /** Another pack is on its way to Stripe. */
  blocked: boolean;
  onBuy(quantity: number): void;
  onSignIn(): void;
}

export function PackCard(props: PackCardProps) {
  const { pack, smallest, best, busy, blocked } = props;
  const [quantity, setQuantity] = useState(1);
  const headingId = useId();
  const saving = savingPercent(pack, smallest);
  const total = formatMoney(pack.unit_amount * quantity, pack.currency);
  const bought = creditsPhrase(pack.credits * quantity);
  // A pack called "50 credits" is its own figure; the name would only say it twice.
  const named = pack.name.trim().toLowerCase() !== `${pack.credits} credits`;

  function press() {
    if (busy || blocked || props.action === 'wait') return;
    if (props.action === 'sign-in') props.onSignIn();
    else props.onBuy(quantity);
  }

  return (
    <article
      aria-labelledby={headingId}
      className={`card relative flex flex-col gap-5 p-6 ${best ? 'ticket-best' : ''}`}
    >
      <div>
        {best && (
          <p className="badge-best rounded-full bg-brand px-3 py-1.5 text-xs leading-none font-semibold text-brand-ink">
            Best value
          </p>
        )}
        <h3 id={headingId} className="font-sans text-base font-semibold tracking-normal">
          {named && <span className="mb-2 block">{pack.name}</span>}
          <span className="font-display text-6xl tracking-tight tabular-nums">
            {formatCredits(pack.credits)}
          </span>{' '}
          <span className="ml-1 font-normal text-muted">
            {pack.credits === 1 ? 'credit' : 'credits'}
          </span>
        </h3>
        {pack.description && <p className="mt-2 text-muted">{pack.description}</p>}
      </div>
      <div className="perforation mt-auto" />
      <div>
        <p className="flex flex-wrap items-baseline justify-between gap-x-3">
          <span className="text-2xl font-semibold tabular-nums">
            {formatMoney(pack.unit_amount, pack.currency)}
          </span>
          <span className="text-sm text-muted tabular-nums">
            {formatPerCredit(pack)} per credit
          </span>
        </p>
        <p className="mt-1 min-h-6 text-sm">
          {saving > 0 && (
            <span className="rounded bg-accent-soft px-1.5 py-0.5 font-semibold text-accent">
              {formatPercent(saving)} less per credit
              <span className="sr-only"> than with {smallest.name}</span>
            </span>
          )}
        </p>
      </div>
      <div className="grid gap-3">
        <QuantityStepper
          of={pack.name}
          value={quantity}
          disabled={busy || blocked}
          onChange={setQuantity}
        />
        <p role="status" className="sr-only">
          {quantity > 1 && `${bought} for ${total}`}
        </p>
        <button
          type="button"
          className={`button ${best ? 'button-primary' : 'button-quiet border-brand text-brand'}`}
          aria-disabled={busy || blocked}
          onClick={press}
        >
          {busy ? (
            <>
              <Spinner />
              Opening checkout…
            </>
          ) : props.action === 'sign-in' ? (
            `Sign in to buy ${bought}`
          ) : (
            `Buy ${bought} for ${total}`
          )}
        </button>
      </div>
    </article>
  );
}
