import { useRef } from 'react';
import { Link } from 'wouter';
import type { Mode, Pricing } from '../api.ts';
import { type CheckoutFailure, useCheckout } from '../checkout.ts';
import { EmptyDrawing } from '../components/icons.tsx';
import { PackCard } from '../components/PackCard.tsx';
import { PageTitle } from '../components/PageTitle.tsx';
import { PlanCard } from '../components/PlanCard.tsx';
import { Problem } from '../components/Problem.tsx';
import { SignedOut } from '../components/SignedOut.tsx';
import { useIdentity } from '../identity.ts';
import { bestValuePack, creditsPhrase, smallestPack } from '../money.ts';
import { useCredits, usePricing, useSubscription } from '../queries.ts';

const FOOTNOTES: Record<Mode, string> = {
  local: '',
  test: 'Test card: 4242 4242 4242 4242, any future date, any CVC.',
  live: 'Taxes, where they apply, are shown before you pay.',
};

/** Statuses of a subscription that would be a second one. */
const RUNNING = new Set(['active', 'trialing', 'past_due', 'unpaid', 'paused']);

const SKELETON_CARDS = ['first', 'second', 'third'];

export function PricingPage() {
  const pricing = usePricing();
  const identity = useIdentity();

  return (
    <>
      <div className="max-w-2xl">
        <PageTitle tab="Pricing">Credits, paid once</PageTitle>
        <p className="mt-4 text-lg text-pretty text-muted">
          Pay with Stripe, use your credits seconds later. No subscription needed.
        </p>
        <BalanceLine />
      </div>
      {pricing.data ? (
        <Catalogue pricing={pricing.data} signedOut={identity.kind === 'signed-out'} />
      ) : pricing.isError ? (
        <div className="mt-10 max-w-2xl">
          <Problem
            error={pricing.error}
            title="The prices could not be loaded"
            onRetry={() => void pricing.refetch()}
            retrying={pricing.isFetching}
          />
        </div>
      ) : (
        <CatalogueSkeleton />
      )}
    </>
  );
}

/** Its line is always there, so that the balance moves nothing when it arrives. */
function BalanceLine() {
  const credits = useCredits();
  return (
    <p className="mt-4 min-h-6">
      {credits.data && (
        <>
          You have <strong className="tabular-nums">{creditsPhrase(credits.data.available)}</strong>{' '}
          to spend.{' '}
          <Link href="/account" className="link">
            History
          </Link>
        </>
      )}
    </p>
  );
}

function Catalogue({ pricing, signedOut }: { pricing: Pricing; signedOut: boolean }) {
  const identity = useIdentity();
  const credits = useCredits();
  const checkout = useCheckout();
  const notice = useRef<HTMLDivElement>(null);
  const { packs, plans } = pricing;
  const smallest = smallestPack(packs);
  const best = bestValuePack(packs);
  const subscription = useSubscription();
  // A plan already owned is changed in the portal; who that is must be known before one is offered.
  const subscribed = RUNNING.has(subscription.data?.status ?? '');
  const waiting = identity.kind === 'pending' || (!signedOut && subscription.isPending);
  const failedPack = packs.find(({ id }) => id === checkout.failure?.packId);
  const failedPlan = plans.find(({ id }) => id === checkout.failure?.packId);

  function showNotice() {
    notice.current?.scrollIntoView({ block: 'center' });
    notice.current?.focus();
  }

  if (!smallest && plans.length === 0) {
    return (
      <div className="card mt-10 grid justify-items-center gap-3 p-10 text-center text-muted">
        <EmptyDrawing />
        <p className="font-semibold text-ink">Nothing is on sale yet</p>
        <p className="max-w-prose">
          The catalogue has no packs and no plans. Whoever runs this shop adds them there.
        </p>
      </div>
    );
  }

  return (
    <>
      {signedOut && (
        <div className="mt-6 max-w-2xl">
          <SignedOut
            ref={notice}
            expired={identity.kind === 'signed-out' && identity.expired}
            purpose="to buy credits"
          />
        </div>
      )}
      {smallest && (
        <section aria-labelledby="packs" className="mt-10">
          <h2 id="packs" className="sr-only">
            Credit packs
          </h2>
          <div className="grid items-stretch gap-5 sm:grid-cols-2 lg:grid-cols-3">
            {packs.map((pack) => (
              <PackCard
                key={pack.id}
                pack={pack}
                smallest={smallest}
                best={best?.id === pack.id}
                action={signedOut ? 'sign-in' : identity.kind === 'pending' ? 'wait' : 'buy'}
                busy={checkout.busy === pack.id}
                blocked={checkout.busy !== null && checkout.busy !== pack.id}
                onBuy={(quantity) => void checkout.buy(pack.id, quantity)}
                onSignIn={showNotice}
              />
            ))}
          </div>
          {failedPack && checkout.failure && (
            <FailedCheckout
              failure={checkout.failure}
              bought={creditsPhrase(failedPack.credits * checkout.failure.quantity)}
              onRetry={checkout.buy}
            />
          )}
          <p className="mt-4 min-h-5 text-sm text-muted">
            {packs.length > 1 &&
              `Savings compare the price per credit with the smallest pack (${smallest.name}). `}
            {FOOTNOTES[pricing.mode]}
          </p>
        </section>
      )}
      {plans.length > 0 && (
        <section aria-labelledby="plans" className="mt-16">
          <h2 id="plans" className="text-3xl">
            Plans
          </h2>
          <p className="mt-2 text-muted">Credits that renew by themselves, until you cancel.</p>
          <div className="mt-6 grid gap-5 sm:grid-cols-2 lg:grid-cols-3">
            {plans.map((plan) => (
              <PlanCard
                key={plan.id}
                plan={plan}
                current={subscribed && credits.data?.plan === plan.id}
                action={signedOut ? 'sign-in' : waiting ? 'wait' : subscribed ? 'change' : 'buy'}
                busy={checkout.busy === plan.id}
                blocked={checkout.busy !== null && checkout.busy !== plan.id}
                onBuy={() => void checkout.buy(plan.id, 1)}
                onSignIn={showNotice}
              />
            ))}
          </div>
          {failedPlan && checkout.failure && (
            <FailedCheckout
              failure={checkout.failure}
              bought={`the plan ${failedPlan.name}`}
              onRetry={checkout.buy}
            />
          )}
        </section>
      )}
    </>
  );
}

interface FailedCheckoutProps {
  failure: CheckoutFailure;
  bought: string;
  onRetry(packId: string, quantity: number): Promise<void>;
}

/** Below the packs, so that they stay as they are; brought into view where they are stacked. */
function FailedCheckout({ failure, bought, onRetry }: FailedCheckoutProps) {
  const { packId, quantity, error } = failure;
  return (
    <div
      className="mt-5 max-w-2xl scroll-my-6"
      ref={(element) => element?.scrollIntoView({ block: 'nearest' })}
    >
      <Problem
        error={error}
        title={`The checkout for ${bought} could not be opened`}
        onRetry={() => void onRetry(packId, quantity)}
      />
    </div>
  );
}

function CatalogueSkeleton() {
  return (
    <div className="mt-10">
      <p role="status" className="sr-only">
        Loading prices
      </p>
      <div aria-hidden="true" className="grid gap-5 sm:grid-cols-2 lg:grid-cols-3">
        {SKELETON_CARDS.map((card) => (
          <div key={card} className="card flex h-88 flex-col gap-5 p-6">
            <div className="skeleton h-14 w-40" />
            <div className="perforation mt-auto" />
            <div className="skeleton h-8 w-24" />
            <div className="skeleton h-11" />
            <div className="skeleton mt-8 h-11" />
          </div>
        ))}
      </div>
    </div>
  );
}
