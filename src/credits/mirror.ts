import type { Logger, MirrorRecord, RedisStore, RunAfterResponse } from '../core/ports.ts';

export interface MirrorDeps {
  redis: RedisStore;
  logger: Logger;
  /** Unix milliseconds now, for `valid_until`. */
  nowMs: () => number;
  /** Updates follow the answer. */
  runAfterResponse: RunAfterResponse;
}

/** Redis' copy of balances: it answers checks quickly and never accepts a spend. */
export interface Mirror {
  /** The copy, or null when there is none, it has run out, or Redis does not answer. */
  read(userId: string): Promise<MirrorRecord | null>;
  /**
   * Hands the newest record to Redis without making the caller wait; applied only if newer. What
   * is lost here is found by mirror-repair and by the next read.
   */
  update(userId: string, record: MirrorRecord): void;
  /** Resolves when the updates begun so far have ended (for the drain). */
  idle(): Promise<void>;
}

export function createMirror({ redis, logger, nowMs, runAfterResponse }: MirrorDeps): Mirror {
  const underWay = new Set<Promise<void>>();

  return {
    async read(userId) {
      try {
        const record = await redis.readMirror(userId);
        if (record?.valid_until != null && record.valid_until <= nowMs()) return null;
        return record;
      } catch (error) {
        // Redis down costs latency, never an answer: the ledger is asked instead.
        logger.warn('Mirror could not be read, asking the ledger', { user_id: userId, error });
        return null;
      }
    },
    update(userId, record) {
      const write = redis.writeMirror(userId, record).then(
        () => undefined,
        (error: unknown) => logger.warn('Mirror was not updated', { user_id: userId, error }),
      );
      underWay.add(write);
      void write.finally(() => underWay.delete(write));
      runAfterResponse(write);
    },
    async idle() {
      await Promise.all(underWay);
    },
  };
}
