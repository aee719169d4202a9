import type { Logger, MirrorRecord, RedisStore, RunAfterResponse } from '../core/ports.ts';

export interface MirrorDeps {
  /** The store with a bound on each call (src/redis/guardedRedis.ts): callers wait for reads. */
  redis: RedisStore;
  logger: Logger;
  /** Unix milliseconds now, for `valid_until`. */
  nowMs: () => number;
  /** Updates follow the answer. */
  runAfterResponse: RunAfterResponse;
}

/** Redis' copy of balances: it answers checks quickly and never accepts a spend. */
export interface Mirror {
  /**
   * The copy, or null when the ledger must be asked: there is none, it has run out, it is of
   * another ledger or known to be old, or Redis does not answer. Never older than what this
   * process has handed to `update`.
   */
  read(userId: string): Promise<MirrorRecord | null>;
  /**
   * Hands the newest record, as the ledger gave it, to Redis without making the caller wait;
   * applied only if newer. What is lost here is found by mirror-repair and by the next read.
   */
  update(userId: string, record: MirrorRecord): void;
  /**
   * The same for many users (at most 1000), in one round trip. Never rejects; resolves when the
   * copies are written or lost. Whoever answers a request upon them hands the promise to
   * `runAfterResponse`: this may run on behalf of many requests, and cannot know which.
   */
  updateAll(records: (MirrorRecord & { user_id: string })[]): Promise<void>;
  /** Resolves when the updates begun so far have ended (for the drain). */
  idle(): Promise<void>;
}

/** Users whose last update is not known to have arrived; beyond it mirror-repair alone helps. */
const UNWRITTEN_MAX = 10_000;

interface Update {
  userId: string;
  record: MirrorRecord;
  /** It may not have arrived, so no copy of this user is believed until a later one has. */
  failed: boolean;
}

export function createMirror({ redis, logger, nowMs, runAfterResponse }: MirrorDeps): Mirror {
  const underWay = new Set<Promise<void>>();
  const unwritten = new Map<string, Update>();
  /** Known from the first record on; until then no copy can be told from a foreign one. */
  let ledger: string | null = null;

  /** Notes what shall be written; null when something as new is on its way already. */
  function note(userId: string, record: MirrorRecord): Update | null {
    ledger = record.ledger;
    const before = unwritten.get(userId);
    const isOlder =
      before?.record.ledger === record.ledger && before.record.version >= record.version;
    if (isOlder && !before.failed) return null;
    const update = { userId, record, failed: false };
    unwritten.delete(userId);
    unwritten.set(userId, update);
    if (unwritten.size > UNWRITTEN_MAX) {
      const oldest = unwritten.keys().next();
      if (!oldest.done) unwritten.delete(oldest.value);
    }
    return update;
  }

  async function write(updates: Update[]): Promise<void> {
    const [first] = updates;
    if (first === undefined) return;
    try {
      if (updates.length === 1) await redis.writeMirror(first.userId, first.record);
      else await redis.writeMirrors(updates);
      for (const update of updates) {
        if (unwritten.get(update.userId) === update) unwritten.delete(update.userId);
      }
    } catch (error) {
      for (const update of updates) update.failed = true;
      logger.debug('Mirror was not updated', {
        user_id: first.userId,
        users: updates.length,
        error,
      });
    }
  }

  function updateAll(records: (MirrorRecord & { user_id: string })[]): Promise<void> {
    const updates = records.flatMap(({ user_id, ...record }) => note(user_id, record) ?? []);
    if (updates.length === 0) return Promise.resolve();
    const writing = write(updates);
    underWay.add(writing);
    void writing.finally(() => underWay.delete(writing));
    return writing;
  }

  return {
    async read(userId) {
      let record: MirrorRecord | null;
      try {
        record = await redis.readMirror(userId);
      } catch (error) {
        // Redis down costs latency, never an answer: the ledger is asked instead.
        logger.debug('Mirror could not be read, asking the ledger', { user_id: userId, error });
        return null;
      }
      const update = unwritten.get(userId);
      if (update?.failed) return null;
      if (record?.ledger !== ledger) record = null;
      // An update on its way has not been overtaken by the read: over HTTP it may be.
      if (update !== undefined && !(record !== null && record.version >= update.record.version)) {
        record = update.record;
      }
      if (record === null) return null;
      return record.valid_until !== null && record.valid_until <= nowMs() ? null : record;
    },

    update(userId, record) {
      runAfterResponse(updateAll([{ ...record, user_id: userId }]));
    },

    updateAll,

    async idle() {
      await Promise.all(underWay);
    },
  };
}
