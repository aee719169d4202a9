/** Failures in a row after which nothing is tried for a while. */
export const FAILURES_TO_OPEN = 5;
/** How long nothing is tried; then one call may, and its end decides. */
export const OPEN_MS = 1_000;

export type BreakerState = 'closed' | 'open' | 'half_open';

export interface Breaker {
  readonly state: BreakerState;
  /**
   * Whether a call may be made now. While half open this says yes to one caller, who must then
   * report how it ended.
   */
  allows(): boolean;
  succeeded(): void;
  failed(): void;
}

export interface BreakerOptions {
  /** Milliseconds that only grow. */
  nowMs: () => number;
  /** Called when it opens (also again after a probe that failed is silent) and when it closes. */
  onChange?: (state: 'open' | 'closed') => void;
}

/**
 * Keeps callers from waiting for something that is known to be down. Calls that began before it
 * opened and fail afterwards change nothing; one that succeeds closes it.
 */
export function createBreaker({ nowMs, onChange = () => {} }: BreakerOptions): Breaker {
  let state: BreakerState = 'closed';
  let failures = 0;
  let tryAgainAt = 0;

  return {
    get state() {
      return state;
    },
    allows() {
      if (state === 'closed') return true;
      // A probe that was never reported must not keep it shut for ever: the next period has its own.
      if (nowMs() < tryAgainAt) return false;
      state = 'half_open';
      tryAgainAt = nowMs() + OPEN_MS;
      return true;
    },
    succeeded() {
      failures = 0;
      if (state === 'closed') return;
      state = 'closed';
      onChange('closed');
    },
    failed() {
      failures += 1;
      if (state === 'half_open') {
        state = 'open';
        tryAgainAt = nowMs() + OPEN_MS;
      } else if (state === 'closed' && failures >= FAILURES_TO_OPEN) {
        state = 'open';
        tryAgainAt = nowMs() + OPEN_MS;
        onChange('open');
      }
    },
  };
}
