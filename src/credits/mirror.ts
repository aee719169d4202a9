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
  /** Resolves when the updates begun so far have ended (for the drain). */
  idle(): Promise<void>;
}

/** Users whose last update is not known to have arrived; beyond it mirror-repair alone helps. */
const UNWRITTEN_MAX = 10_000;

export function createMirror({ redis, logger, nowMs, runAfterResponse }: MirrorDeps): Mirror {
  const underWay = new Set<Promise<void>>();
  const unwritten = new Map<string, { record: MirrorRecord; failed: boolean }>();
  /** Known from the first record on; until then no copy can be told from a foreign one. */
  let ledger: string | null = null;

  async function write(userId: string, update: { record: MirrorRecord; failed: boolean }) {
    try {
      await redis.writeMirror(userId, update.record);
      if (unwritten.get(userId) === update) unwritten.delete(userId);
    } catch (error) {
      update.failed = true;
      logger.debug('Mirror was not updated', { user_id: userId, error });
    }
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
      ledger = record.ledger;
      const before = unwritten.get(userId);
      const isOlder =
        before?.record.ledger === record.ledger && before.record.version >= record.version;
      if (isOlder && !before.failed) return;
      const update = { record, failed: false };
      unwritten.delete(userId);
      unwritten.set(userId, update);
      if (unwritten.size > UNWRITTEN_MAX) {
        const oldest = unwritten.keys().next();
        if (!oldest.done) unwritten.delete(oldest.value);
      }
      const writing = write(userId, update);
      underWay.add(writing);
      void writing.finally(() => underWay.delete(writing));
      runAfterResponse(writing);
    },

    async idle() {
      await Promise.all(underWay);
    },
  };
}
