/** Bounds how many calls run at once: an HTTP client by itself opens a connection for each. */
import { allBusy, closedDatabase, tooManyWaiting, WAITING_MAX } from './callFailure.ts';

export interface CallGate {
  /**
   * Waits for a place and gives the function that leaves it. Rejects with `dependency_down` when
   * no place gets free in time or the gate is closed, with `overloaded` when too many wait.
   */
  enter(waitMs: number): Promise<() => void>;
  /** Lets nobody in any more; resolves when the last call has left. */
  close(): Promise<void>;
}

interface Waiting {
  admit(): void;
  refuse(error: Error): void;
}

export function createCallGate(runningMax: number): CallGate {
  const queue = new Set<Waiting>();
  let running = 0;
  let closing: { done: Promise<void>; resolve: () => void } | null = null;

  function leave(): void {
    running -= 1;
    const [next] = queue;
    if (next !== undefined) {
      queue.delete(next);
      running += 1;
      next.admit();
    } else if (running === 0) closing?.resolve();
  }

  function wait(waitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        queue.delete(waiting);
        reject(allBusy(runningMax));
      }, waitMs);
      const waiting: Waiting = {
        admit() {
          clearTimeout(timer);
          resolve();
        },
        refuse(error) {
          clearTimeout(timer);
          reject(error);
        },
      };
      queue.add(waiting);
    });
  }

  return {
    async enter(waitMs) {
      if (closing !== null) throw closedDatabase();
      if (running < runningMax) running += 1;
      else if (queue.size >= WAITING_MAX) throw tooManyWaiting();
      else await wait(waitMs);
      let left = false;
      return () => {
        if (!left) leave();
        left = true;
      };
    },
    close() {
      if (closing === null) {
        closing = deferred();
        for (const waiting of queue) waiting.refuse(closedDatabase());
        queue.clear();
        if (running === 0) closing.resolve();
      }
      return closing.done;
    },
  };
}

function deferred(): { done: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const done = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { done, resolve };
}
