import { useMutation, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Link } from 'wouter';
import { ApiError } from '../api.ts';
import { forgetClaimToken, readClaimToken } from '../claimToken.ts';
import { CountUp } from '../components/CountUp.tsx';
import { AlertIcon, CheckIcon, ClockIcon, Spinner } from '../components/icons.tsx';
import { Panel } from '../components/Panel.tsx';
import { Problem } from '../components/Problem.tsx';
import { SignedOut } from '../components/SignedOut.tsx';
import { identityKey, useIdentity } from '../identity.ts';
import { api, queryClient, useCredits } from '../queries.ts';

const LOOK_MS = 1_000;
/** After so many looks the page says that the credits come by themselves. */
const LOOKS_MAX = 20;

/** A one-time link leads here: a purchase that nobody could be found for gets its owner. */
export function ClaimPage() {
  const [token] = useState(readClaimToken);
  const identity = useIdentity();

  return (
    <div className="card mx-auto max-w-xl px-6 sm:px-10">
      <div role="status" aria-live="polite">
        {token === null ? (
          <NoLink />
        ) : identity.kind === 'pending' ? (
          <Panel
            tone="wait"
            icon={<Spinner className="size-9" />}
            tab="Your purchase"
            title="One moment"
          >
            <p className="text-muted">Looking up who you are.</p>
          </Panel>
        ) : identity.kind === 'signed-out' ? (
          <Panel
            tone="wait"
            icon={<ClockIcon className="size-9" />}
            tab="Your purchase"
            title="Who shall have the credits?"
          >
            <p className="text-lg text-muted">
              They go to the account you are signed in with. This page keeps your link as long as
              the tab is open.
            </p>
            <SignedOut expired={identity.expired} purpose="to take over your purchase" />
          </Panel>
        ) : (
          <Claiming token={token} key={identityKey(identity)} />
        )}
      </div>
    </div>
  );
}

function Claiming({ token }: { token: string }) {
  const credits = useCredits();
  const who = useWho();
  const [before, setBefore] = useState(0);
  const claim = useMutation({
    mutationFn: () => {
      setBefore(credits.data?.balance ?? 0);
      return api.redeemClaim(token);
    },
    onSuccess: forgetClaimToken,
    onError: (error) => {
      if (error instanceof ApiError && error.status === 404) forgetClaimToken();
    },
  });

  if (claim.isSuccess) return <Claimed before={before} />;
  if (claim.error instanceof ApiError && claim.error.status === 404) return <NoLink used />;
  return (
    <Panel
      tone="wait"
      icon={<CheckIcon className="size-9" />}
      tab="Your purchase"
      title="Your purchase is waiting"
    >
      <p className="text-lg">
        It was paid, and we could not tell whose it is. Take it over, and the credits are added to{' '}
        <strong className="break-all">{who}</strong>.
      </p>
      <p className="text-muted">The link works once, for one account.</p>
      {claim.error !== null && (
        <Problem
          error={claim.error}
          title="It could not be taken over"
          onRetry={() => claim.mutate()}
          retrying={claim.isPending}
        />
      )}
      <button
        type="button"
        className="button button-primary"
        aria-disabled={claim.isPending || credits.isPending}
        onClick={() => {
          if (!claim.isPending && !credits.isPending) claim.mutate();
        }}
      >
        {claim.isPending && <Spinner />}
        Add the credits to this account
      </button>
    </Panel>
  );
}

function Claimed({ before }: { before: number }) {
  const identity = useIdentity();
  const { data, dataUpdatedAt, errorUpdateCount } = useQuery({
    queryKey: ['claimed', identityKey(identity)],
    queryFn: async ({ signal }) => {
      const seen = await api.credits(signal);
      if (seen.balance > before) {
        void queryClient.invalidateQueries({ queryKey: ['credits'] });
        void queryClient.invalidateQueries({ queryKey: ['history'] });
      }
      return seen;
    },
    structuralSharing: false,
    refetchInterval: (query) => {
      const looks = query.state.dataUpdateCount + query.state.errorUpdateCount;
      const arrived = (query.state.data?.balance ?? 0) > before;
      return arrived || looks >= LOOKS_MAX ? false : LOOK_MS;
    },
  });
  const looked = dataUpdatedAt > 0 || errorUpdateCount > 0;
  const arrived = data !== undefined && data.balance > before;

  return (
    <Panel
      tone={arrived ? 'good' : 'wait'}
      icon={arrived ? <CheckIcon className="size-9" /> : <Spinner className="size-9" />}
      tab={arrived ? 'Credits added' : 'Adding your credits'}
      title={arrived ? 'The credits are yours' : 'Adding your credits'}
    >
      {arrived ? (
        <p className="rise text-lg">
          Your balance is now{' '}
          <strong className="text-2xl">
            <CountUp from={before} to={data.balance} />
          </strong>
          .
        </p>
      ) : (
        <p className="min-h-14 text-lg">
          {looked
            ? 'The purchase is yours. The credits arrive by themselves; you can close this page.'
            : 'This takes a few seconds.'}
        </p>
      )}
      <Links />
    </Panel>
  );
}

function NoLink({ used = false }: { used?: boolean }) {
  return (
    <Panel
      tone="bad"
      icon={<AlertIcon className="size-9" />}
      tab="Your purchase"
      title={used ? 'This link does not work any more' : 'This link is not complete'}
    >
      <p className="text-lg text-muted">
        {used
          ? 'It was used, has expired, or was replaced by a newer one. If the credits are not in your account, ask support for a new link: nothing is lost.'
          : 'A part of its address is missing. Open it again from the e-mail, in whole.'}
      </p>
      <Links />
    </Panel>
  );
}

function Links() {
  return (
    <p className="mt-2 flex flex-wrap justify-center gap-3">
      <Link href="/account" className="button button-primary">
        See your account
      </Link>
      <Link href="/pricing" className="button button-quiet">
        Back to the prices
      </Link>
    </p>
  );
}

/** How the page calls the account that is signed in. */
function useWho(): string {
  const identity = useIdentity();
  if (identity.kind === 'local') return identity.userId;
  const known = identity.kind === 'token' ? (identity.email ?? identity.subject) : null;
  return known ?? 'the account you are signed in with';
}
