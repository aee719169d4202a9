import type { Database, RedisStore } from '../core/ports.ts';
import { listMirrorChanges } from './ledger.ts';

/** Transactions that commit late carry a time before the cursor; nothing runs this long. */
const OVERLAP_MS = 60_000;
const PAGE_MAX = 1000;

export interface MirrorRepair {
  /**
   * Copies every balance that changed since the last call to Redis, where it is newer. Repeating
   * it costs reads only. Answers how many users changed and how many copies were behind.
   */
  run(shouldStop: () => boolean): Promise<{ changed: number; repaired: number }>;
}

/**
 * Walks the ledger behind its writers, so that Redis follows a change made anywhere (another
 * process, SQL by hand, an update that was lost). The cursor starts at `since` and lives in the
 * process: with the in-process adapter each process repairs its own copy.
 */
export function createMirrorRepair(
  { db, redis }: { db: Database; redis: RedisStore },
  since: Date,
): MirrorRepair {
  let cursor = since;

  return {
    async run(shouldStop) {
      let changed = 0;
      let repaired = 0;
      let from = new Date(cursor.getTime() - OVERLAP_MS).toISOString();
      while (!shouldStop()) {
        const page = await listMirrorChanges(db, from, PAGE_MAX);
        for (const { user_id, ...record } of page.records) {
          changed += 1;
          if ((await redis.writeMirror(user_id, record)) === 'applied') repaired += 1;
        }
        if (page.complete || page.last_change === null || page.last_change === from) {
          cursor = new Date(page.as_of);
          break;
        }
        from = page.last_change;
      }
      return { changed, repaired };
    },
  };
}
