import { type ReactNode, useEffect } from 'react';
import { Link, useLocation } from 'wouter';
import type { Mode } from '../api.ts';
import { useMode } from '../identity.ts';
import { usePricing } from '../queries.ts';
import { brandName } from './PageTitle.tsx';
import { UserMenu } from './UserMenu.tsx';

const MODE_NOTES: Record<Mode, string | null> = {
  local: 'Local mode: a sandbox stands in for Stripe on this machine. No real money moves.',
  test: 'Test mode: Stripe takes test cards only. No real money moves.',
  live: null,
};

export function Layout({ children }: { children: ReactNode }) {
  const mode = useMode();
  // Every page needs the mode, also those that show no prices.
  usePricing();

  useEffect(() => {
    const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
    if (icon) icon.href = `/favicon-${mode ?? 'live'}.svg`;
  }, [mode]);

  return (
    <>
      <a
        href="#main"
        className="button button-primary sr-only z-40 focus:not-sr-only focus:fixed focus:top-3 focus:left-3 focus:px-5 focus:py-2"
      >
        Skip to content
      </a>
      {mode === 'local' && <div className="mode-stripe mode-stripe-local" />}
      {mode === 'test' && <div className="mode-stripe mode-stripe-test" />}
      <header className="border-b border-line bg-surface pt-1.5">
        <div className="mx-auto grid max-w-6xl grid-cols-[auto_auto_minmax(0,1fr)] items-center gap-x-3 px-4 sm:h-16 sm:grid-cols-[auto_auto_auto_minmax(0,1fr)] sm:gap-x-6 sm:px-6">
          <Link href="/pricing" className="py-3 font-display text-2xl font-semibold tracking-tight">
            {brandName}
          </Link>
          <div className="flex sm:col-start-3">
            <ModeBadge mode={mode} />
          </div>
          <nav
            aria-label="Main"
            className="col-span-3 row-start-2 -mx-4 flex h-12 items-stretch border-t border-line px-1 sm:col-span-1 sm:col-start-2 sm:row-start-1 sm:mx-0 sm:h-full sm:border-0 sm:px-0"
          >
            <NavLink href="/pricing" also="/">
              Pricing
            </NavLink>
            <NavLink href="/account">Account</NavLink>
          </nav>
          <div className="col-start-3 flex h-14 min-w-0 items-center justify-end sm:col-start-4 sm:row-start-1">
            <UserMenu />
          </div>
        </div>
      </header>
      <main
        id="main"
        className="mx-auto min-h-[calc(100dvh-4.375rem)] max-w-6xl px-4 py-10 sm:px-6 sm:py-14"
      >
        {children}
      </main>
      <footer className="border-t border-line">
        <div className="mx-auto flex max-w-6xl flex-wrap justify-between gap-x-8 gap-y-1 px-4 py-6 text-sm text-muted sm:px-6">
          <p>
            {(mode && MODE_NOTES[mode]) ??
              'Payments are taken by Stripe. Card details never reach us.'}
          </p>
          <p>Every credit comes from one entry in your history.</p>
        </div>
      </footer>
    </>
  );
}

function ModeBadge({ mode }: { mode: Mode | null }) {
  if (mode === null || mode === 'live') return null;
  return (
    <span
      className={`rounded-md px-2.5 py-1 text-sm leading-none font-bold tracking-[0.14em] text-mode-ink ${
        mode === 'local' ? 'bg-mode-local' : 'bg-mode-test'
      }`}
      title={MODE_NOTES[mode] ?? undefined}
    >
      {mode.toUpperCase()}
    </span>
  );
}

function NavLink({ href, also, children }: { href: string; also?: string; children: ReactNode }) {
  const [location] = useLocation();
  const current = location === href || location === also;
  return (
    <Link
      href={href}
      aria-current={current ? 'page' : undefined}
      className={`flex items-center border-b-2 px-3 font-medium ${
        current ? 'border-brand text-ink' : 'border-transparent text-muted hover:text-ink'
      }`}
    >
      {children}
    </Link>
  );
}
