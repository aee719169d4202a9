import type { ReactNode } from 'react';
import { Link, useSearchParams } from 'wouter';
import { ApiError, type CheckoutStatus } from '../api.ts';
import { CountUp } from '../components/CountUp.tsx';
import { AlertIcon, CheckIcon, ClockIcon, Spinner } from '../components/icons.tsx';
import { PageTitle } from '../components/PageTitle.tsx';
import { Panel } from '../components/Panel.tsx';
import { Problem } from '../components/Problem.tsx';
import { useIdentity, useMode } from '../identity.ts';
import { creditsPhrase, formatSigned } from '../money.ts';
import { type Settlement, useSettlement } from '../settlement.ts';

export function SuccessPage() {
  const [params] = useSearchParams();
  const sessionId = params.get('session_id') ?? '';
  const settlement = useSettlement(sessionId);

  return (
    <div className="card mx-auto max-w-xl px-6 sm:px-10">
      <p className="py-4 text-center text-sm break-all text-muted">
        Purchase <code className="select-all">{sessionId || 'without a number'}</code>
      </p>
      <div className="perforation sm:-mx-10" />
      <div role="status" aria-live="polite">
        {sessionId === '' ? <UnknownPurchase /> : <Purchase settlement={settlement} />}
      </div>
    </div>
  );
}

function Purchase({ settlement }: { settlement: Settlement }) {
  const { status, error } = settlement;
  if (error instanceof ApiError && !error.transient) {
    if (error.status === 404) return <UnknownPurchase />;
    if (error.status === 401) return <SignedOutPurchase />;
    return <UnreadablePurchase settlement={settlement} />;
  }
  switch (status?.status) {
    case 'credited':
      return <Credited status={status} />;
    case 'parked':
      return <Parked settlement={settlement} credits={status.credits} />;
    case 'expired':
      return (
        <Ended title="This checkout has expired">
          It was not paid in time, and nothing was charged. You can simply start again.
        </Ended>
      );
    case 'failed':
      return (
        <Ended title="The payment did not go through">
          Your bank declined it, so no credits were added. If a charge shows up on your statement,
          it is a reservation that your bank releases by itself.
        </Ended>
      );
    default:
      return <Processing settlement={settlement} />;
  }
}

function Links({ primary = 'pricing' }: { primary?: 'pricing' | 'account' }) {
  const pricing = primary === 'pricing';
  return (
    <p className="mt-2 flex flex-wrap justify-center gap-3">
      <Link href="/account" className={`button ${pricing ? 'button-quiet' : 'button-primary'}`}>
        See your account
      </Link>
      <Link href="/pricing" className={`button ${pricing ? 'button-primary' : 'button-quiet'}`}>
        {pricing ? 'Back to the prices' : 'Buy more'}
      </Link>
    </p>
  );
}

function Credited({ status }: { status: CheckoutStatus }) {
  const { balance, credits } = status;
  return (
    <Panel
      tone="good"
      icon={<CheckIcon className="size-9" />}
      tab="Credits added"
      title={`${formatSigned(credits)} ${credits === 1 ? 'credit' : 'credits'}`}
    >
      {typeof balance === 'number' ? (
        <p className="rise text-lg">
          Your balance is now{' '}
          <strong className="text-2xl">
            <CountUp from={Math.max(0, balance - credits)} to={balance} />
          </strong>
          .
        </p>
      ) : (
        <p className="text-lg text-muted">
          They were added to the account that bought them. Open this page from your app to see the
          balance.
        </p>
      )}
      <p className="text-muted">Thank you. They are ready to use.</p>
      <Links primary="account" />
    </Panel>
  );
}

function Processing({ settlement }: { settlement: Settlement }) {
  const { status, slow, paused, error } = settlement;
  const open = status?.status === 'open';
  const title = paused
    ? 'Still waiting for the payment'
    : open && slow
      ? 'The payment is not finished'
      : 'Confirming your payment';
  return (
    <Panel
      tone="wait"
      icon={paused ? <ClockIcon className="size-9" /> : <Spinner className="size-9" />}
      tab="Confirming your payment"
      title={title}
    >
      <div className="grid content-start gap-3">
        <p className="min-h-14 text-lg text-balance">
          {error
            ? 'The server cannot be asked right now. Your payment is safe with Stripe; trying again.'
            : open && slow
              ? 'Stripe has not told us of a payment for this checkout.'
              : status && !open
                ? `${creditsPhrase(status.credits)} will be added as soon as Stripe confirms.`
                : 'This takes a few seconds.'}
        </p>
        {slow && open && (
          <p className="text-muted">
            If you left it early, go back to the prices and start again; nothing was charged.
          </p>
        )}
        {slow && !open && (
          <p className="text-muted">
            Cards settle at once. A bank payment (SEPA, bank transfer, a voucher) takes days: your
            credits arrive by themselves when it settles. You can close this page.
          </p>
        )}
      </div>
      {paused && (
        <button type="button" className="button button-primary" onClick={settlement.lookAgain}>
          Check again
        </button>
      )}
      {(slow || paused) && <Links primary={open ? 'pricing' : 'account'} />}
    </Panel>
  );
}

function Parked({ settlement, credits }: { settlement: Settlement; credits: number }) {
  return (
    <Panel
      tone="wait"
      icon={<ClockIcon className="size-9" />}
      tab="Payment received"
      title="We have your payment"
    >
      <p className="text-lg">
        {creditsPhrase(credits)} are set aside for you, but we could not tell yet which account they
        belong to.
      </p>
      <p className="text-muted">
        They are added by themselves as soon as your account is known: signing in to your app once
        is usually enough. Otherwise send the purchase number above to support; nothing gets lost.
      </p>
      {settlement.paused && (
        <button type="button" className="button button-primary" onClick={settlement.lookAgain}>
          Check again
        </button>
      )}
      <Links primary="account" />
    </Panel>
  );
}

function Ended({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Panel tone="bad" icon={<AlertIcon className="size-9" />} tab={title} title={title}>
      <p className="text-lg text-muted">{children}</p>
      <Links />
    </Panel>
  );
}

function UnknownPurchase() {
  return (
    <Panel
      tone="bad"
      icon={<AlertIcon className="size-9" />}
      tab="Unknown purchase"
      title="We do not know this purchase"
    >
      <p className="text-lg text-muted">
        The address of this page names no checkout of this shop; a part of it may have been lost. If
        you paid, your credits are added all the same: look at your account.
      </p>
      <Links primary="account" />
    </Panel>
  );
}

function SignedOutPurchase() {
  const identity = useIdentity();
  const expired = identity.kind === 'signed-out' && identity.expired;
  const mode = useMode();
  return (
    <Panel
      tone="wait"
      icon={<ClockIcon className="size-9" />}
      tab="Signed out"
      title={expired ? 'Your session has expired' : 'You are signed out'}
    >
      <p className="text-lg text-muted">
        If you paid, your credits are added without this page.{' '}
        {mode === 'local'
          ? 'Pick a user in the header to see them.'
          : 'Open your account from your app to see them.'}
      </p>
      <Links primary="account" />
    </Panel>
  );
}

function UnreadablePurchase({ settlement }: { settlement: Settlement }) {
  return (
    <div className="grid gap-5 py-8">
      <PageTitle tab="Purchase" className="sm:text-4xl">
        Your purchase
      </PageTitle>
      <p className="text-lg text-muted">If you paid, your credits are added without this page.</p>
      <Problem
        error={settlement.error}
        title="Its state could not be read"
        onRetry={settlement.lookAgain}
      />
      <Links primary="account" />
    </div>
  );
}
