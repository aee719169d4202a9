import { isRetryable } from '../core/errors.ts';
import type { Database, Logger, RedisStore, SeenMirror } from '../core/ports.ts';
import {
  judgeMirrorCopies,
  listMirrorChanges,
  listMirrorRecords,
  type MirrorChanges,
  type UserMirrorRecord,
} from './ledger.ts';
import { type FullPass, type MirrorCursor, parseCursor } from './mirrorCursor.ts';

/** Transactions that commit late carry a time before the cursor; nothing runs this long. */
const OVERLAP_MS = 60_000;
const PAGE_MAX = 1000;
/** During a full pass changes are still followed at least this often. */
const FOLLOW_EVERY_MS = 1_000;
const FULL_PASS_EVERY_MS = 24 * 3_600_000;
/** A process that starts makes a full pass, unless one was made this recently. */
const FULL_PASS_AT_START_MS = 10 * 60_000;
/** The cursor's name in Redis. */
const JOB = 'mirror-repair';

export interface MirrorRepairDeps {
  db: Database;
  /** The store without the bound on each call: batches take longer. */
  redis: RedisStore;
  logger: Logger;
  /** Unix milliseconds now. */
  nowMs: () => number;
}

export interface MirrorRepairCounts {
  /** Users whose copy was compared. */
  changed: number;
  /** Copies that were missing, behind or damaged, and were written. */
  repaired: number;
  /** Copies ahead of the ledger (it was restored from a backup), and overwritten. */
  ahead: number;
  /** Copies of users that are gone, and deleted. */
  removed: number;
  /** True when Redis or the database failed; the next run goes on where this one could not. */
  waiting?: true;
}

export interface MirrorRepair {
  /**
   * Copies every balance that changed since the cursor to Redis, where it is newer, and works on
   * the full pass when one is due. Repeating it costs reads only. Ends early when told to stop.
   */
  run(shouldStop: () => boolean): Promise<MirrorRepairCounts>;
}

/**
 * Walks the ledger behind its writers, so that Redis follows a change made anywhere (another
 * process, SQL by hand, an update that was lost).
 *
 * How far it has come is kept in Redis, beside the copies it speaks of, and moved by
 * compare-and-set. So it is lost with them (flush: full pass), goes back with them (failover, older
 * snapshot: the changes since are walked again), and is found by the next process.
 */
export function createMirrorRepair(deps: MirrorRepairDeps): MirrorRepair {
  const { db, redis, logger, nowMs } = deps;
  /** Versions known to be in Redis: the overlap is read again each second, not written again. */
  let known = new Map<string, number>();
  let lastMoved: string | null = null;
  let isFirstRun = true;
  let wasWaiting = false;

  async function runOnce(shouldStop: () => boolean, counts: MirrorRepairCounts): Promise<void> {
    let stored = await redis.readCursor(JOB);
    if (stored === null || stored !== lastMoved) known = new Map();
    let cursor = parseCursor(stored);

    /** False when the cursor is not where it was left: Redis has lost what was written to it. */
    async function move(next: MirrorCursor): Promise<boolean> {
      const text = JSON.stringify(next);
      if ((await redis.moveCursor(JOB, stored, text)) === 'stale') return false;
      stored = text;
      lastMoved = text;
      cursor = next;
      return true;
    }

    for (;;) {
      const followed = await followChanges(cursor, shouldStop, counts);
      if (followed === null || !(await move(followed))) return;
      const followAgainAt = nowMs() + FOLLOW_EVERY_MS;
      while (cursor?.full) {
        if (shouldStop()) return;
        if (nowMs() >= followAgainAt) break;
        const full = await stepFullPass(cursor.full, counts);
        const fullAt = full === null ? cursor.full.began_at : cursor.full_at;
        if (!(await move({ ...cursor, full, full_at: fullAt }))) return;
      }
      if (!cursor?.full) return;
    }
  }

  /** The cursor after all changes so far, or null when told to stop before. */
  async function followChanges(
    cursor: MirrorCursor | null,
    shouldStop: () => boolean,
    counts: MirrorRepairCounts,
  ): Promise<MirrorCursor | null> {
    const sinceMs = cursor === null ? nowMs() : Date.parse(cursor.since);
    let from = new Date(sinceMs - OVERLAP_MS).toISOString();
    const first = await listMirrorChanges(db, from, PAGE_MAX);
    let next = startOf(cursor, first);
    const seen = new Map<string, number>();
    for (let page = first; ; page = await listMirrorChanges(db, from, PAGE_MAX)) {
      await copy(page.records, counts);
      await forget(page.gone, counts);
      for (const { user_id } of page.records) seen.set(user_id, known.get(user_id) ?? -1);
      for (const userId of page.gone) seen.set(userId, GONE);
      if (page.complete) break;
      if (shouldStop()) return null;
      if (page.last_change === null || page.last_change === from) {
        // A whole page of one moment: the rest cannot be told apart by time, the full pass can.
        next = { ...next, full: next.full ?? beginFullPass(first, 'many changes at one moment') };
        break;
      }
      from = page.last_change;
    }
    known = seen;
    return next;
  }

  function startOf(cursor: MirrorCursor | null, page: MirrorChanges): MirrorCursor {
    const reason = fullPassReason(cursor, page);
    isFirstRun = false;
    const full = reason === null ? (cursor?.full ?? null) : beginFullPass(page, reason);
    return {
      ledger: page.ledger,
      since: page.as_of,
      position: page.position,
      full_at: cursor?.full_at ?? null,
      full,
    };
  }

  function fullPassReason(cursor: MirrorCursor | null, page: MirrorChanges): string | null {
    if (cursor === null) return 'Redis holds no cursor: it is new, or has lost its data';
    if (cursor.ledger !== page.ledger) return 'the copies are of another ledger';
    if (page.position < cursor.position) return 'the ledger has gone back: it was restored';
    if (cursor.full !== null) return null;
    const age =
      cursor.full_at === null
        ? Number.POSITIVE_INFINITY
        : Date.parse(page.as_of) - Date.parse(cursor.full_at);
    if (age >= FULL_PASS_EVERY_MS) return 'the last one is a day old';
    return isFirstRun && age >= FULL_PASS_AT_START_MS ? 'the process has started' : null;
  }

  function beginFullPass(page: MirrorChanges, reason: string): FullPass {
    logger.info(`Full pass over the mirror begins: ${reason}`);
    known = new Map();
    return { began_at: page.as_of, stage: 'ledger', at: null };
  }

  /** First every user's copy is written, then copies of users that are gone are deleted. */
  async function stepFullPass(
    pass: FullPass,
    counts: MirrorRepairCounts,
  ): Promise<FullPass | null> {
    if (pass.stage === 'ledger') {
      const page = await listMirrorRecords(db, pass.at, PAGE_MAX);
      await copy(page.records, counts);
      return page.complete || page.last === null
        ? { ...pass, stage: 'redis', at: null }
        : { ...pass, at: page.last };
    }
    const { copies, cursor } = await redis.scanMirrors(pass.at);
    await settle(copies, counts);
    return cursor === null ? null : { ...pass, at: cursor };
  }

  async function copy(records: UserMirrorRecord[], counts: MirrorRepairCounts): Promise<void> {
    counts.changed += records.length;
    const wanted = records.filter(({ user_id, version }) => known.get(user_id) !== version);
    const outcomes = await redis.writeMirrors(
      wanted.map(({ user_id, ...record }) => ({ userId: user_id, record })),
    );
    const newer: { userId: string; seen: SeenMirror }[] = [];
    for (const [index, { user_id, version, ledger }] of wanted.entries()) {
      const write = outcomes[index];
      if (write?.outcome === 'stale') {
        newer.push({ userId: user_id, seen: { ledger, version: write.storedVersion } });
      } else {
        if (write?.outcome === 'applied') counts.repaired += 1;
        known.set(user_id, version);
      }
    }
    await settle(newer, counts);
  }

  /**
   * Compares copies seen in Redis with the ledger, which is read after them: copies are made of
   * committed versions, so one that is ahead of the ledger then belongs to a past that was undone.
   */
  async function settle(
    copies: { userId: string; seen: SeenMirror | null }[],
    counts: MirrorRepairCounts,
  ): Promise<void> {
    for (let start = 0; start < copies.length; start += PAGE_MAX) {
      const page = copies.slice(start, start + PAGE_MAX);
      const { gone, ahead } = await judgeMirrorCopies(
        db,
        page.map(({ userId, seen }) => ({
          user_id: userId,
          ledger: seen?.ledger ?? null,
          version: seen?.version ?? null,
        })),
      );
      const seenOf = new Map(page.map(({ userId, seen }) => [userId, seen]));
      for (const userId of gone) {
        if (await remove(userId, seenOf.get(userId) ?? null)) counts.removed += 1;
      }
      for (const { user_id: userId, ...record } of ahead) {
        if (!(await remove(userId, seenOf.get(userId) ?? null))) continue;
        counts.ahead += 1;
        await redis.writeMirror(userId, record);
      }
    }
  }

  /** Only while it is the copy that was seen; a damaged one is nobody's. */
  async function remove(userId: string, seen: SeenMirror | null): Promise<boolean> {
    if (seen !== null) return (await redis.removeMirror(userId, seen)) === 'applied';
    await redis.deleteMirror(userId);
    return true;
  }

  async function forget(userIds: string[], counts: MirrorRepairCounts): Promise<void> {
    for (const userId of userIds) {
      if (known.get(userId) === GONE) continue;
      await redis.deleteMirror(userId);
      known.set(userId, GONE);
      counts.removed += 1;
    }
  }

  return {
    async run(shouldStop) {
      const counts: MirrorRepairCounts = { changed: 0, repaired: 0, ahead: 0, removed: 0 };
      try {
        await runOnce(shouldStop, counts);
        wasWaiting = false;
      } catch (error) {
        if (!isRetryable(error)) throw error;
        // Redis may be down for hours, and this runs every second: it is said once.
        if (!wasWaiting) logger.warn('mirror-repair waits for Redis or the database', { error });
        wasWaiting = true;
        counts.waiting = true;
      }
      return counts;
    },
  };
}

/** In place of a version: the user is gone, and so is the copy. */
const GONE = -2;
