import { PurserError } from '../../core/errors.ts';

/** Who is calling. `actor` is what the audit log shows: never a key, at most its fingerprint. */
export interface UserIdentity {
  kind: 'user';
  userId: string;
  email: string | null;
  /** From `app_metadata`, which users cannot edit; never from `user_metadata`. */
  admin: boolean;
  /** Signed in without an account of their own: may look, may not buy. */
  anonymous: boolean;
  actor: string;
}

export interface KeyIdentity {
  kind: 'service' | 'admin' | 'cron' | 'metrics';
  actor: string;
}

export type Identity = UserIdentity | KeyIdentity;

/** A 401; `presented` tells whether the caller sent a credential at all (RFC 6750, section 3). */
export function unauthenticated(detail: string, cause?: unknown): PurserError {
  return new PurserError('unauthenticated', { detail, cause });
}
