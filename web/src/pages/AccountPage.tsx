import { Link } from 'wouter';
import { BalanceCard, ExpiringList } from '../components/BalanceCard.tsx';
import { History } from '../components/History.tsx';
import { PageTitle } from '../components/PageTitle.tsx';
import { Problem } from '../components/Problem.tsx';
import { SignedOut } from '../components/SignedOut.tsx';
import { SubscriptionCard } from '../components/SubscriptionCard.tsx';
import { useIdentity } from '../identity.ts';
import { useCredits, usePricing } from '../queries.ts';

export function AccountPage() {
  const identity = useIdentity();
  const credits = useCredits();
  return (
    <>
      <PageTitle tab="Account">Your credits</PageTitle>
      {identity.kind === 'signed-out' ? (
        <SignedOutAccount expired={identity.expired} />
      ) : (
        <>
          <Balance />
          {/* Both load at once; the history shows when it no longer has to move for the balance. */}
          <div className={credits.isPending ? 'invisible' : ''}>
            <History />
          </div>
        </>
      )}
    </>
  );
}

function Balance() {
  const credits = useCredits();
  return (
    <div className="mt-8 grid gap-5">
      {credits.data ? (
        <>
          <BalanceCard credits={credits.data} />
          <SubscriptionCard />
          <ExpiringList credits={credits.data} />
        </>
      ) : credits.isError ? (
        <Problem
          error={credits.error}
          title="The balance could not be loaded"
          onRetry={() => void credits.refetch()}
          retrying={credits.isFetching}
        />
      ) : (
        <div className="card h-60 p-6 sm:p-8">
          <p role="status" className="sr-only">
            Loading your balance
          </p>
          <div aria-hidden="true" className="grid gap-4">
            <div className="skeleton h-5 w-36" />
            <div className="skeleton h-14 w-44" />
            <div className="skeleton h-12 w-64 max-w-full" />
          </div>
        </div>
      )}
    </div>
  );
}

/** Without prices the mode is unknown too, so signed out may only mean that nothing answers. */
function SignedOutAccount({ expired }: { expired: boolean }) {
  const pricing = usePricing();
  if (pricing.isError) {
    return (
      <div className="mt-8 max-w-2xl">
        <Problem
          error={pricing.error}
          title="Your account could not be loaded"
          onRetry={() => void pricing.refetch()}
          retrying={pricing.isFetching}
        />
      </div>
    );
  }
  return (
    <div className="mt-8 grid max-w-2xl gap-5">
      <SignedOut expired={expired} purpose="to see your balance and history" />
      <p>
        <Link href="/pricing" className="button button-quiet">
          See prices
        </Link>
      </p>
    </div>
  );
}
