import type { MirrorRecord, MirrorWrite, RedisStore } from '../core/ports.ts';
import { creditsKey } from './keys.ts';

/** Beyond this the longest unused mirror goes; a miss only costs a look at the ledger. */
const MIRRORS_MAX = 100_000;
const MARKERS_MAX = 100_000;
/** Beyond this the window opened first is forgotten. */
const WINDOWS_MAX = 100_000;

export interface MemoryRedisOptions {
  /** Unix milliseconds, for the markers' time to live. */
  nowMs: () => number;
}

/**
 * The in-process adapter: the embedded default, with the semantics of the Redis scripts. One
 * thread, so each operation is atomic; each process has its own, so mirror-repair runs in each.
 */
export function createMemoryRedis({ nowMs }: MemoryRedisOptions): RedisStore {
  const mirrors = new Map<string, { userId: string; record: MirrorRecord }>();
  const markers = new Map<string, number>();
  const cursors = new Map<string, string>();
  const windows = new Map<string, { count: number; endsAt: number }>();

  function keepNewest<T>(map: Map<string, T>, key: string, value: T, max: number): void {
    map.delete(key);
    map.set(key, value);
    if (map.size > max) {
      const oldest = map.keys().next();
      if (!oldest.done) map.delete(oldest.value);
    }
  }

  function read(userId: string): MirrorRecord | null {
    const stored = mirrors.get(creditsKey(userId));
    return stored === undefined ? null : { ...stored.record };
  }

  function write(userId: string, record: MirrorRecord): MirrorWrite {
    const key = creditsKey(userId);
    const stored = mirrors.get(key)?.record;
    if (stored?.ledger === record.ledger) {
      if (stored.version > record.version) {
        return { outcome: 'stale', storedVersion: stored.version };
      }
      if (isSame(stored, record)) return { outcome: 'equal' };
    }
    keepNewest(mirrors, key, { userId, record: { ...record } }, MIRRORS_MAX);
    return { outcome: 'applied' };
  }

  return {
    kind: 'memory',
    async readMirror(userId) {
      return read(userId);
    },
    async readMirrors(userIds) {
      return userIds.map(read);
    },
    async writeMirror(userId, record) {
      return write(userId, record);
    },
    async writeMirrors(copies) {
      return copies.map(({ userId, record }) => write(userId, record));
    },
    async deleteMirror(userId) {
      mirrors.delete(creditsKey(userId));
    },
    async removeMirror(userId, seen) {
      const key = creditsKey(userId);
      const stored = mirrors.get(key)?.record;
      if (stored?.ledger !== seen.ledger || stored.version !== seen.version) return 'stale';
      mirrors.delete(key);
      return 'applied';
    },
    async scanMirrors() {
      const copies = [...mirrors.values()].map(({ userId, record: { ledger, version } }) => ({
        userId,
        seen: { ledger, version },
      }));
      return { copies, cursor: null };
    },
    async readCursor(job) {
      return cursors.get(job) ?? null;
    },
    async moveCursor(job, seen, next) {
      if ((cursors.get(job) ?? null) !== seen) return 'stale';
      cursors.set(job, next);
      return 'applied';
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
    async countInWindow(key, windowSeconds) {
      const now = nowMs();
      const latestEnd = now + windowSeconds * 1000;
      const open = windows.get(key);
      if (open === undefined || open.endsAt <= now) {
        keepNewest(windows, key, { count: 1, endsAt: latestEnd }, WINDOWS_MAX);
        return { count: 1, resetsInSeconds: windowSeconds };
      }
      open.count += 1;
      // The clock may have been set back.
      open.endsAt = Math.min(open.endsAt, latestEnd);
      return { count: open.count, resetsInSeconds: Math.ceil((open.endsAt - now) / 1000) };
    },
    async ping() {},
    async close() {},
  };
}

function isSame(one: MirrorRecord, other: MirrorRecord): boolean {
  return (Object.keys(one) as (keyof MirrorRecord)[]).every((field) => one[field] === other[field]);
}
