import type { MirrorRecord, RedisStore } from '../core/ports.ts';
import { creditsKey } from './keys.ts';

/** Beyond this the longest unused mirror goes; a miss only costs a look at the ledger. */
const MIRRORS_MAX = 100_000;
const MARKERS_MAX = 100_000;

export interface MemoryRedisOptions {
  /** Unix milliseconds, for the markers' time to live. */
  nowMs: () => number;
}

/**
 * The in-process adapter: the embedded default, with the semantics of the Redis scripts. One
 * thread, so each operation is atomic; each process has its own, so mirror-repair runs in each.
 */
export function createMemoryRedis({ nowMs }: MemoryRedisOptions): RedisStore {
  const mirrors = new Map<string, MirrorRecord>();
  const markers = new Map<string, number>();

  function keepNewest<T>(map: Map<string, T>, key: string, value: T, max: number): void {
    map.delete(key);
    map.set(key, value);
    if (map.size > max) {
      const oldest = map.keys().next();
      if (!oldest.done) map.delete(oldest.value);
    }
  }

  return {
    kind: 'memory',
    async readMirror(userId) {
      const record = mirrors.get(creditsKey(userId));
      return record === undefined ? null : { ...record };
    },
    async writeMirror(userId, record) {
      const key = creditsKey(userId);
      const stored = mirrors.get(key);
      if (stored?.ledger === record.ledger && stored.version >= record.version) return 'stale';
      keepNewest(mirrors, key, { ...record }, MIRRORS_MAX);
      return 'applied';
    },
    async deleteMirror(userId) {
      mirrors.delete(creditsKey(userId));
    },
    async setMarker(key, ttlSeconds) {
      const until = markers.get(key);
      if (until !== undefined && until > nowMs()) return false;
      keepNewest(markers, key, nowMs() + ttlSeconds * 1000, MARKERS_MAX);
      return true;
    },
    async hasMarker(key) {
      const until = markers.get(key);
      return until !== undefined && until > nowMs();
    },
    async deleteMarker(key) {
      markers.delete(key);
    },
    async ping() {},
    async close() {},
  };
}
