import { useRef, useState } from 'react';
import { signOut, useIdentity } from '../identity.ts';
import { creditsPhrase } from '../money.ts';
import { useCredits } from '../queries.ts';
import { ChevronIcon } from './icons.tsx';
import { LocalUserForm } from './LocalUserForm.tsx';

const PANEL_ID = 'user-panel';

/** Who the page acts as, with the balance; opens the local user switch or the signed-in details. */
export function UserMenu() {
  const identity = useIdentity();
  const credits = useCredits();
  const panel = useRef<HTMLDivElement>(null);
  const [announcement, setAnnouncement] = useState('');

  if (identity.kind === 'pending') return null;
  const name =
    identity.kind === 'local'
      ? identity.userId
      : identity.kind === 'token'
        ? (identity.email ?? identity.subject ?? 'Signed in')
        : 'Signed out';

  return (
    <>
      <button
        type="button"
        popoverTarget={PANEL_ID}
        className="button button-quiet max-w-full min-w-0 gap-2.5 px-3 py-1"
      >
        <span className="grid min-w-0 text-left leading-tight">
          <span className="max-w-40 truncate text-sm sm:max-w-56">
            <span className="sr-only">{identity.kind === 'local' ? 'Acting as ' : ''}</span>
            {name}
          </span>
          {identity.kind !== 'signed-out' && (
            <span className="text-xs font-normal text-muted tabular-nums">
              {credits.data ? creditsPhrase(credits.data.available) : '\u2014'}
            </span>
          )}
        </span>
        <ChevronIcon className="size-4 shrink-0" />
      </button>
      <div
        ref={panel}
        id={PANEL_ID}
        popover="auto"
        role="dialog"
        aria-label="Your identity on these pages"
        className="card fixed inset-x-3 top-16 right-3 m-0 ml-auto w-auto max-w-sm p-5 text-ink sm:left-auto sm:w-96"
      >
        {identity.kind === 'local' && (
          <LocalUserForm
            key={identity.userId}
            current={identity}
            onSwitched={(user) => {
              setAnnouncement(`Now acting as ${user.userId}.`);
              panel.current?.hidePopover();
            }}
          />
        )}
        {identity.kind === 'token' && (
          <div className="grid gap-3">
            <p className="font-semibold break-words">{name}</p>
            <p className="text-sm text-muted">
              Signed in by your app for this tab. Credits you buy go to this account.
            </p>
            <button type="button" className="button button-quiet" onClick={signOut}>
              Sign out here
            </button>
          </div>
        )}
        {identity.kind === 'signed-out' && (
          <p>
            {identity.expired
              ? 'Your session has expired. Open this page from your app again to sign in.'
              : 'Open this page from your app to sign in.'}
          </p>
        )}
      </div>
      <p role="status" className="sr-only">
        {announcement}
      </p>
    </>
  );
}
