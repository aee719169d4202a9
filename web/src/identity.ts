/**
 * Who is looking at the pages.
 *
 * An app hands its user's access token over in the URL fragment (`#access_token=...`), which never
 * reaches a server or a log. It moves to sessionStorage at once and leaves the address bar.
 * Without a token, mode `local` acts as a user picked in the header (the server accepts plain
 * `x-user-id` only when everything is embedded); the other modes are signed out.
 */
import { useSyncExternalStore } from 'react';
import type { Mode } from './api.ts';
import { createStore } from './storage.ts';

export type Identity =
  /** The mode is not known yet, so neither is who this is. */
  | { kind: 'pending' }
  | { kind: 'local'; userId: string; email: string }
  | { kind: 'token'; token: string; subject: string | null; email: string | null }
  | { kind: 'signed-out'; expired: boolean };

export interface LocalUser {
  userId: string;
  email: string;
}

export const DEMO_USER: LocalUser = { userId: 'demo-user', email: 'demo@example.com' };
export const USER_ID_LENGTH_MAX = 128;
const RECENT_USERS_MAX = 5;

const TOKEN_KEY = 'purser.access_token';
const USERS_KEY = 'purser.local_users';
const MODE_KEY = 'purser.mode';

const session = createStore(() => window.sessionStorage);
const local = createStore(() => window.localStorage);
const listeners = new Set<() => void>();

let mode: Mode | 'unreachable' | null = readMode();
let expired = false;
let identity = resolve();

/** Takes a token out of the address bar; runs before the first render and on later hash changes. */
export function takeTokenFromAddress(): void {
  const fragment = new URLSearchParams(window.location.hash.slice(1));
  const token = fragment.get('access_token');
  if (!token) return;
  session.write(TOKEN_KEY, token);
  expired = false;
  const { pathname, search } = window.location;
  window.history.replaceState(window.history.state, '', pathname + search);
  change();
}

/** Called with what the server says; `unreachable` resolves to signed out when nothing is known. */
export function setMode(next: Mode | 'unreachable'): void {
  if (next === 'unreachable') {
    if (mode !== null) return;
  } else {
    local.write(MODE_KEY, next);
  }
  if (next === mode) return;
  mode = next;
  change();
}

export function switchLocalUser(user: LocalUser): void {
  const others = recentLocalUsers().filter((known) => known.userId !== user.userId);
  local.write(USERS_KEY, JSON.stringify([user, ...others].slice(0, RECENT_USERS_MAX)));
  change();
}

/** Most recently used first; never empty. */
export function recentLocalUsers(): LocalUser[] {
  const users = parseUsers(local.read(USERS_KEY));
  if (users.some((user) => user.userId === DEMO_USER.userId)) return users;
  return [...users, DEMO_USER].slice(-RECENT_USERS_MAX);
}

export function signOut(): void {
  session.write(TOKEN_KEY, null);
  expired = false;
  change();
}

export function identityHeaders(): Record<string, string> {
  if (identity.kind === 'token') return { Authorization: `Bearer ${identity.token}` };
  if (identity.kind === 'local') {
    return { 'x-user-id': identity.userId, 'x-user-email': identity.email };
  }
  return {};
}

/** Drops a refused token, unless another one has taken its place while the request ran. */
export function tokenRefused(sent: Record<string, string>): void {
  if (identity.kind !== 'token' || sent.Authorization !== `Bearer ${identity.token}`) return;
  session.write(TOKEN_KEY, null);
  expired = true;
  change();
}

export function useIdentity(): Identity {
  return useSyncExternalStore(subscribe, () => identity);
}

/** The mode for badge, title and favicon; null until known. */
export function useMode(): Mode | null {
  return useSyncExternalStore(subscribe, () => (mode === 'unreachable' ? null : mode));
}

/** Separates one user's cached answers from another's. */
export function identityKey(who: Identity): string {
  if (who.kind === 'local') return `local:${who.userId}:${who.email}`;
  return who.kind === 'token' ? `token:${who.token}` : who.kind;
}

/** What is wrong with a user id for a header, or null. */
export function userIdProblem(userId: string): string | null {
  if (userId === '') return 'Enter a user id.';
  if (userId.length > USER_ID_LENGTH_MAX) return `Use at most ${USER_ID_LENGTH_MAX} characters.`;
  if (!/^[\x21-\x7e]+$/.test(userId)) return 'Use letters, digits and signs without spaces.';
  return null;
}

export function emailProblem(email: string): string | null {
  if (/^[\x21-\x7e]+@[\x21-\x7e]+$/.test(email)) return null;
  return 'Enter an address like name@example.com.';
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function change(): void {
  identity = resolve();
  for (const listener of listeners) listener();
}

function resolve(): Identity {
  const token = session.read(TOKEN_KEY);
  if (token) return { kind: 'token', token, ...claimsForDisplay(token) };
  if (mode === null) return { kind: 'pending' };
  if (mode === 'local') {
    return { kind: 'local', ...(recentLocalUsers()[0] ?? DEMO_USER) };
  }
  return { kind: 'signed-out', expired };
}

/**
 * Subject and e-mail as the token states them, for display only: the server verifies, we cannot.
 * An opaque token has neither, which is fine.
 */
function claimsForDisplay(token: string): { subject: string | null; email: string | null } {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : null);
    return { subject: text(claims.sub), email: text(claims.email) };
  } catch {
    return { subject: null, email: null };
  }
}

function readMode(): Mode | null {
  const stored = local.read(MODE_KEY);
  return stored === 'local' || stored === 'test' || stored === 'live' ? stored : null;
}

function parseUsers(stored: string | null): LocalUser[] {
  if (stored === null) return [];
  try {
    const users: unknown = JSON.parse(stored);
    return Array.isArray(users) ? users.filter(isLocalUser) : [];
  } catch {
    // Another program's value under our key: start over with the demo user.
    return [];
  }
}

function isLocalUser(value: unknown): value is LocalUser {
  const user = value as Partial<LocalUser> | null;
  if (typeof user?.userId !== 'string' || typeof user.email !== 'string') return false;
  return userIdProblem(user.userId) === null && emailProblem(user.email) === null;
}

window.addEventListener('hashchange', takeTokenFromAddress);
// Another tab switched the local user: follow it, so that two tabs never act as two people.
window.addEventListener('storage', (event) => {
  if (event.key === USERS_KEY || event.key === null) change();
});
