import { type ReactNode, useEffect, useRef } from 'react';
import { useMode } from '../identity.ts';

export const brandName =
  document.querySelector<HTMLMetaElement>('meta[name="application-name"]')?.content || 'Purser';

/** The first page keeps the browser's own focus; later ones move it to their heading. */
let pagesShown = 0;

interface PageTitleProps {
  /** For the tab; the environment stands before it, so that tabs cannot be mixed up. */
  tab: string;
  children: ReactNode;
  className?: string;
}

export function PageTitle({ tab, children, className = '' }: PageTitleProps) {
  const mode = useMode();
  const heading = useRef<HTMLHeadingElement>(null);

  useEffect(() => {
    const prefix = mode === null || mode === 'live' ? '' : `[${mode.toUpperCase()}] `;
    document.title = `${prefix}${tab} · ${brandName}`;
  }, [mode, tab]);

  useEffect(() => {
    pagesShown += 1;
    if (pagesShown === 1) return;
    window.scrollTo(0, 0);
    heading.current?.focus({ preventScroll: true });
  }, []);

  return (
    <h1 ref={heading} tabIndex={-1} className={`text-4xl sm:text-5xl ${className}`}>
      {children}
    </h1>
  );
}
