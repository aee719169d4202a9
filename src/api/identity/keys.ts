import { createHash, timingSafeEqual } from 'node:crypto';
import type { Settings } from '../../config.ts';
import type { KeyIdentity } from './identity.ts';

/** Finds out which door a key opens. */
export interface KeyRing {
  /** Null for a key nobody was given. */
  find(presented: string): KeyIdentity | null;
}

const digestOf = (key: string): Buffer => createHash('sha256').update(key).digest();

/** First 8 hex digits of the key's SHA-256: tells keys apart in the audit log, reveals none. */
const fingerprintOf = (digest: Buffer): string => digest.toString('hex').slice(0, 8);

/**
 * Keys are compared by their digests, all of them, in constant time: neither the length of a key
 * nor how much of a guess was right can be measured.
 */
export function createKeyRing(keys: Settings['keys']): KeyRing {
  const known = (['service', 'admin', 'cron', 'metrics'] as const).flatMap((kind) =>
    keys[kind].map((key) => {
      const digest = digestOf(key);
      return { digest, identity: { kind, actor: `${kind}:${fingerprintOf(digest)}` } as const };
    }),
  );
  return {
    find(presented) {
      const digest = digestOf(presented);
      let found: KeyIdentity | null = null;
      for (const key of known) {
        if (timingSafeEqual(key.digest, digest)) found = key.identity;
      }
      return found;
    },
  };
}
