import { createHash } from 'node:crypto';
import { MemoryStore, type Store } from 'express-rate-limit';
import type { Logger, RedisStore, WindowCount } from '../core/ports.ts';

export interface SharedCountDeps {
  redis: Pick<RedisStore, 'countInWindow'>;
  logger: Logger;
}

/** Counts for all processes at once; null when Redis did not answer, which is told once. */
export type SharedCount = (key: string, windowSeconds: number) => Promise<WindowCount | null>;

export function createSharedCount({ redis, logger }: SharedCountDeps): SharedCount {
  let away = false;
  return async (key, windowSeconds) => {
    try {
      const counted = await redis.countInWindow(key, windowSeconds);
      if (away) logger.info('Wrong keys and checkouts are counted in Redis again');
      away = false;
      return counted;
    } catch (error) {
      if (!away) {
        logger.warn('Redis is away: each process counts wrong keys and checkouts by itself', {
          error,
        });
      }
      away = true;
      return null;
    }
  };
}

/**
 * `purser:limit:<name>:<digest>` in Redis, gone a minute after its first count. Addresses and user
 * ids are personal data and nobody has to read them there, so 128 bits of their SHA-256 stand in
 * for them. That keeps them out of SLOWLOG, MONITOR and snapshots; it hides no IPv4 address from
 * one who holds the key and tries all of them.
 */
function limitKey(name: string, who: string): string {
  const digest = createHash('sha256').update(who).digest().subarray(0, 16);
  return `purser:limit:${name}:${digest.toString('base64url')}`;
}

/**
 * A limit's counts in Redis, for all processes together, and in this process too. The process'
 * own count holds where Redis is away or has lost its keys: a limit then is one per process,
 * nothing is refused for want of Redis. What the process has found above the limit by itself it
 * does not ask Redis about: a flood of guesses stays here.
 */
export function createSharedStore(
  count: SharedCount,
  { name, limit, windowSeconds }: { name: string; limit: number; windowSeconds: number },
): Store {
  const own = new MemoryStore();
  return {
    prefix: `${name}:`,
    init: (options) => own.init(options),
    async increment(who) {
      // Read now: the library goes on counting in the object it hands out.
      const { totalHits, resetTime } = await own.increment(who);
      if (totalHits > limit) return { totalHits, resetTime };
      const shared = await count(limitKey(name, who), windowSeconds);
      if (shared === null || shared.count < totalHits) return { totalHits, resetTime };
      return {
        totalHits: shared.count,
        resetTime: new Date(Date.now() + shared.resetsInSeconds * 1000),
      };
    },
    // Asked for by the interface. No limit of ours takes a count back, so Redis has no such step.
    decrement: (who) => own.decrement(who),
    resetKey: (who) => own.resetKey(who),
    shutdown: () => own.shutdown(),
  };
}
