/**
 * The token of a one-time link. It comes in the URL fragment (`/claim#purchase=...`), which never
 * reaches a server or a log, and is kept for this tab: whoever has to sign in first comes back to
 * the page without it.
 */
import { createStore } from './storage.ts';

const KEY = 'purser.claim';
const session = createStore(() => window.sessionStorage);

/** Reads it from the address bar, which is tidied, or from before. */
export function readClaimToken(): string | null {
  const fragment = new URLSearchParams(window.location.hash.slice(1));
  const token = fragment.get('purchase');
  if (token !== null) {
    session.write(KEY, token);
    fragment.delete('purchase');
    const rest = fragment.size > 0 ? `#${fragment}` : '';
    window.history.replaceState(window.history.state, '', window.location.pathname + rest);
  }
  return session.read(KEY);
}

/** After it was used, or was refused for good. */
export function forgetClaimToken(): void {
  session.write(KEY, null);
}
