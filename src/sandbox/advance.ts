import type { Clock } from './clock.ts';
import type { Store } from './store.ts';

/** Years ahead one may go in one advance; a typing error (milliseconds for seconds) is not a plan. */
export const ADVANCE_MAX_MS = 20 * 366 * 86_400_000;
/** Steps in one call unless it says otherwise; the answer tells whether more are needed. */
export const ADVANCE_STEPS_DEFAULT = 5_000;
export const ADVANCE_STEPS_MAX = 100_000;
/** The server answers others in between, each time this many steps were made. */
const YIELD_EVERY = 100;

export interface AdvanceResult {
  /** True when the clock stands at the target. */
  readonly done: boolean;
  /** Where the clock is, and where it was to go. Milliseconds. */
  readonly nowMs: number;
  readonly targetMs: number;
  /** Pieces of due work done, and webhook attempts made, in this call. */
  readonly tasks: number;
  readonly attempts: number;
}

/** Something with work that becomes due: the account's tasks, or webhook attempts. */
interface Due {
  nextDueAt(): number | null;
}

export interface Advancer {
  /**
   * Moves the account's time to `targetMs`, doing everything due on the way in the order of time and
   * at its own instant, cascades included. Webhooks made at one instant are sent, and answered or
   * timed out, before the next instant. Stops after `stepsMax` with `done: false`; calling again with
   * the same target goes on.
   * @throws Error when the target is not ahead, or another advance is under way.
   */
  advance(targetMs: number, stepsMax: number): Promise<AdvanceResult>;
  /** The target of an advance under way. */
  target(): number | null;
  /** Ends an advance under way after its current step, unfinished. */
  stop(): Promise<void>;
}

export function createAdvancer(deps: {
  store: Store;
  clock: Clock;
  tasks: Due & { runNext(atMs: number): void };
  attempts: Due & { made(): number; settle(): Promise<void> };
}): Advancer {
  const { store, clock, tasks, attempts } = deps;
  let target: number | null = null;
  let running: Promise<unknown> | null = null;
  let stopped = false;

  async function steps(targetMs: number, stepsMax: number): Promise<AdvanceResult> {
    const attemptsBefore = attempts.made();
    let count = 0;
    for (let step = 0; ; step += 1) {
      await attempts.settle();
      const task = tasks.nextDueAt();
      const attempt = attempts.nextDueAt();
      const next = Math.min(task ?? targetMs, attempt ?? targetMs, targetMs);
      const at = Math.max(next, clock.now());
      const due = (task ?? Infinity) <= at || (attempt ?? Infinity) <= at;
      const over = stopped || step >= stepsMax || !due;
      if (!due && !stopped) store.transaction(() => clock.moveTo(targetMs));
      if (over) {
        return {
          done: !due && !stopped,
          nowMs: clock.now(),
          targetMs,
          tasks: count,
          attempts: attempts.made() - attemptsBefore,
        };
      }
      if ((task ?? Infinity) <= at) {
        tasks.runNext(at);
        count += 1;
      } else {
        store.transaction(() => clock.moveTo(at));
      }
      if (step % YIELD_EVERY === YIELD_EVERY - 1) await new Promise((go) => setImmediate(go));
    }
  }

  return {
    target: () => target,
    async advance(targetMs, stepsMax) {
      if (target !== null) throw new Error('The clock is already being advanced.');
      target = targetMs;
      store.transaction(() => clock.hold());
      try {
        const work = steps(targetMs, stepsMax);
        running = work;
        return await work;
      } finally {
        store.transaction(() => clock.release());
        target = null;
        running = null;
      }
    },
    async stop() {
      stopped = true;
      await Promise.allSettled([running]);
    },
  };
}
