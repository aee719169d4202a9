import type { Credits } from '../credits/credits.types.ts';
import type { UserIdentity } from './identity/identity.ts';

/** Users remembered per process; one forgotten costs one more call of an idempotent function. */
const KNOWN_USERS_MAX = 10_000;

/** Makes sure that a signed-in user has a row, once per process and user. */
export interface KnownUsers {
  /** Errors: those of `Credits.ensureUser`. */
  ensure(user: UserIdentity): Promise<void>;
}

export function createKnownUsers(credits: Pick<Credits, 'ensureUser'>): KnownUsers {
  /** By id, oldest use first; the e-mail, so that a new one is told to the database once. */
  const known = new Map<string, string | null>();
  const underWay = new Map<string, Promise<unknown>>();

  function remember(userId: string, email: string | null): void {
    known.delete(userId);
    known.set(userId, email);
    const oldest = known.size > KNOWN_USERS_MAX ? known.keys().next() : null;
    if (oldest !== null && !oldest.done) known.delete(oldest.value);
  }

  return {
    async ensure({ userId, email }) {
      const remembered = known.get(userId);
      if (remembered !== undefined && (email === null || remembered === email)) {
        remember(userId, remembered);
        return;
      }
      // A page opens with several requests at once; one of them makes the row for all.
      const call = `${userId}\n${email ?? ''}`;
      let ensured = underWay.get(call);
      if (ensured === undefined) {
        ensured = credits
          .ensureUser({ userId, email: email ?? undefined })
          .finally(() => underWay.delete(call));
        underWay.set(call, ensured);
      }
      await ensured;
      remember(userId, email);
    },
  };
}
