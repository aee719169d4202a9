import { PurserError } from '../core/errors.ts';
import type { Logger, RedisStore } from '../core/ports.ts';
import { createBreaker } from './breaker.ts';

/** The most that Redis may cost whoever asks it; the ledger answers in less. */
export const DEADLINE_MS = 150;

export interface GuardOptions {
  logger: Logger;
  /** Milliseconds that only grow; default the process' own. */
  nowMs?: () => number;
}

/**
 * The store as requests see it: each operation ends within DEADLINE_MS, and while Redis is down
 * none is tried but one a second. Requests write at most the users of one batch of spends; longer
 * walks (scanMirrors, full passes) are for jobs, which take the store itself. An operation given up
 * may still happen; all of them may.
 */
export function guardRedis(store: RedisStore, options: GuardOptions): RedisStore {
  const { logger, nowMs = () => performance.now() } = options;
  let lastError: unknown;
  const breaker = createBreaker({
    nowMs,
    onChange(state) {
      if (state === 'closed') logger.info('Redis answers again');
      else logger.warn('Redis is not asked for now, the ledger answers', { error: lastError });
    },
  });

  /** Written without `async`: this stands before every check. */
  function guard<T>(operation: () => Promise<T>): Promise<T> {
    if (!breaker.allows()) return Promise.reject(notAsked());
    return new Promise<T>((resolve, reject) => {
      let ended = false;
      const fail = (error: unknown) => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        lastError = error;
        breaker.failed();
        reject(error);
      };
      // Timers run before sockets are read: after a pause of this very process the answer may be
      // lying there, and Redis is not to blame. So the verdict comes after the reading.
      const timer = setTimeout(() => setImmediate(() => fail(tooLate())), DEADLINE_MS);
      operation().then((answer) => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        breaker.succeeded();
        resolve(answer);
      }, fail);
    });
  }

  return {
    kind: store.kind,
    readMirror: (userId) => guard(() => store.readMirror(userId)),
    readMirrors: (userIds) => guard(() => store.readMirrors(userIds)),
    writeMirror: (userId, record) => guard(() => store.writeMirror(userId, record)),
    writeMirrors: (copies) => guard(() => store.writeMirrors(copies)),
    deleteMirror: (userId) => guard(() => store.deleteMirror(userId)),
    removeMirror: (userId, seen) => guard(() => store.removeMirror(userId, seen)),
    scanMirrors: (cursor) => guard(() => store.scanMirrors(cursor)),
    readCursor: (job) => guard(() => store.readCursor(job)),
    moveCursor: (job, seen, next) => guard(() => store.moveCursor(job, seen, next)),
    setMarker: (key, ttlSeconds) => guard(() => store.setMarker(key, ttlSeconds)),
    hasMarker: (key) => guard(() => store.hasMarker(key)),
    deleteMarker: (key) => guard(() => store.deleteMarker(key)),
    countInWindow: (key, windowSeconds) => guard(() => store.countInWindow(key, windowSeconds)),
    ping: () => store.ping(),
    close: () => store.close(),
  };
}

function notAsked(): PurserError {
  return new PurserError('dependency_down', {
    detail: 'Redis failed several times in a row and is not asked for a second.',
    retryAfterSeconds: 1,
  });
}

function tooLate(): PurserError {
  return new PurserError('dependency_down', {
    detail: `Redis did not answer within ${DEADLINE_MS} ms.`,
    retryAfterSeconds: 1,
  });
}
