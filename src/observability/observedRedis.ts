import type { RedisStore } from '../core/ports.ts';
import type { Observers } from './observers.ts';

/**
 * The store as requests see it, with each operation told to `observe`: which reads are hits, which
 * copies were newer, what failed.
 */
export function observeRedis(store: RedisStore, observe: Observers['redis']): RedisStore {
  /** Without `async`: this stands before every check. */
  function told<T>(
    operation: string,
    work: Promise<T>,
    resultOf: (answer: T) => string,
  ): Promise<T> {
    return work.then(
      (answer) => {
        observe(operation, resultOf(answer), 1);
        return answer;
      },
      (error: unknown) => {
        observe(operation, 'failed', 1);
        throw error;
      },
    );
  }
  const ok = () => 'ok';
  const hit = (answer: unknown) => (answer === null || answer === false ? 'miss' : 'hit');
  const outcome = (write: { outcome: string }) => write.outcome;

  async function writeMirrors(copies: Parameters<RedisStore['writeMirrors']>[0]) {
    try {
      const writes = await store.writeMirrors(copies);
      for (const write of writes) observe('write_mirror', write.outcome, 1);
      return writes;
    } catch (error) {
      observe('write_mirror', 'failed', copies.length);
      throw error;
    }
  }

  return {
    kind: store.kind,
    readMirror: (userId) => told('read_mirror', store.readMirror(userId), hit),
    readMirrors: (userIds) => told('read_mirrors', store.readMirrors(userIds), ok),
    writeMirror: (userId, record) =>
      told('write_mirror', store.writeMirror(userId, record), outcome),
    writeMirrors,
    deleteMirror: (userId) => told('delete_mirror', store.deleteMirror(userId), ok),
    removeMirror: (userId, seen) =>
      told('remove_mirror', store.removeMirror(userId, seen), (answer) => answer),
    scanMirrors: (cursor) => told('scan_mirrors', store.scanMirrors(cursor), ok),
    readCursor: (job) => told('read_cursor', store.readCursor(job), ok),
    moveCursor: (job, seen, next) =>
      told('move_cursor', store.moveCursor(job, seen, next), (answer) => answer),
    setMarker: (key, ttlSeconds) => told('set_marker', store.setMarker(key, ttlSeconds), ok),
    hasMarker: (key) => told('has_marker', store.hasMarker(key), hit),
    deleteMarker: (key) => told('delete_marker', store.deleteMarker(key), ok),
    countInWindow: (key, windowSeconds) =>
      told('count_in_window', store.countInWindow(key, windowSeconds), ok),
    ping: () => store.ping(),
    close: () => store.close(),
  };
}
