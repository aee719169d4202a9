import type { Store } from './store.ts';
import { clocks } from './tables.ts';

/** The account's time, kept in the store so that it does not jump back at a restart. */
export type ClockRow = {
  id: 'clock';
  object: 'sandbox.clock';
  /** Added to the injected clock while time flows. Milliseconds. */
  offset_ms: number;
  /** The time at which the clock stands; null while it flows. Milliseconds. */
  frozen_at: number | null;
  /** Set while an advance is under way: it holds the clock, and lets it flow again at the end. */
  flows_after_advance: boolean;
};

export interface Clock {
  /** Milliseconds. */
  now(): number;
  isFrozen(): boolean;
  /** Stands still from now on. The three writers need an open transaction. */
  freeze(): void;
  /** Flows again, from where it stands. */
  flow(): void;
  /** Jumps, standing or flowing as before. Due work is not done here: see `advance.ts`. */
  moveTo(atMs: number): void;
  /** Held by an advance, which says with `flow` whether time goes on by itself afterwards. */
  hold(): void;
  release(): void;
  /** Runs `work` as if it were `atMs`; used for work that became due a moment ago. */
  during<T>(atMs: number, work: () => T): T;
}

const FLOWING: ClockRow = {
  id: 'clock',
  object: 'sandbox.clock',
  offset_ms: 0,
  frozen_at: null,
  flows_after_advance: false,
};

/** `base` is the injected clock; it may stand still (tests) or be the system's. */
export function createClock(store: Store, base: () => number): Clock {
  let instant: number | null = null;

  const row = () => store.get(clocks, 'clock')?.view ?? FLOWING;
  const put = (change: Partial<ClockRow>) =>
    void store.put(clocks, { id: 'clock', view: { ...row(), ...change }, hidden: {} });

  const clock: Clock = {
    now() {
      if (instant !== null) return instant;
      const { frozen_at, offset_ms } = row();
      return frozen_at ?? base() + offset_ms;
    },
    isFrozen: () => row().frozen_at !== null,
    freeze: () => put({ frozen_at: clock.now() }),
    flow() {
      const { frozen_at } = row();
      if (frozen_at !== null) put({ frozen_at: null, offset_ms: frozen_at - base() });
    },
    moveTo(atMs) {
      put(clock.isFrozen() ? { frozen_at: atMs } : { offset_ms: atMs - base() });
    },
    hold: () => put({ flows_after_advance: !clock.isFrozen(), frozen_at: clock.now() }),
    release() {
      if (row().flows_after_advance) clock.flow();
      put({ flows_after_advance: false });
    },
    during(atMs, work) {
      const outer = instant;
      instant = atMs;
      try {
        return work();
      } finally {
        instant = outer;
      }
    },
  };
  return clock;
}
