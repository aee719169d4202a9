import { useEffect, useRef, useState } from 'react';
import { identityKey, useIdentity } from './identity.ts';
import { api } from './queries.ts';

export interface CheckoutFailure {
  packId: string;
  quantity: number;
  error: unknown;
}

/**
 * Starts a checkout. One intent (this user, this pack, this quantity) keeps one idempotency key
 * until it has led to Stripe, so a double click or a retry after a lost answer makes one session;
 * buying the same again later is a new intent.
 */
export function useCheckout() {
  const identity = useIdentity();
  const [busy, setBusy] = useState<string | null>(null);
  const [failure, setFailure] = useState<CheckoutFailure | null>(null);
  const keys = useRef(new Map<string, string>());
  const running = useRef(false);

  useEffect(() => {
    // The browser may show this page again from its cache, as it was when it left for Stripe.
    const onShow = (event: PageTransitionEvent) => {
      if (!event.persisted) return;
      running.current = false;
      setBusy(null);
    };
    window.addEventListener('pageshow', onShow);
    return () => window.removeEventListener('pageshow', onShow);
  }, []);

  async function buy(packId: string, quantity: number): Promise<void> {
    if (running.current) return;
    running.current = true;
    setBusy(packId);
    setFailure(null);
    const intent = JSON.stringify([identityKey(identity), packId, quantity]);
    const key = keys.current.get(intent) ?? randomKey();
    keys.current.set(intent, key);
    try {
      const session = await api.createCheckoutSession({ plan: packId, quantity }, key);
      keys.current.delete(intent);
      // Stays busy: the page is about to leave.
      window.location.assign(checkoutUrl(session.url));
    } catch (error) {
      running.current = false;
      setBusy(null);
      setFailure({ packId, quantity, error });
    }
  }

  return { buy, busy, failure };
}

/** Only a web address may be followed; anything else (`javascript:`) would run as our page. */
export function checkoutUrl(url: string): string {
  const { protocol, href } = new URL(url);
  if (protocol !== 'https:' && protocol !== 'http:') {
    throw new Error(`The server answered an address that is not a web page: ${protocol}`);
  }
  return href;
}

/** `crypto.randomUUID` is missing on plain http in a local network; this is not. */
function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
