/** Bounded, jittered repetition of a database call. */

export interface RetryPolicy {
  /** All tries together, the first included. */
  attemptsMax: number;
  /** No further try begins after this time, so that a caller knows how long it can wait at most. */
  budgetMs: number;
  baseDelayMs: number;
  delayMaxMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = {
  attemptsMax: 5,
  budgetMs: 8_000,
  baseDelayMs: 25,
  delayMaxMs: 1_000,
};

export interface RetryDeps {
  /** A number in [0, 1). */
  random: () => number;
  sleep: (ms: number) => Promise<void>;
  /** Milliseconds of a clock that only moves forward. */
  monotonicMs: () => number;
}

/**
 * Runs `attempt` until it succeeds, `mayRetry` says no, or a bound is met; rejects with the last
 * error. Full jitter: many callers thrown back by one failure come back spread out.
 */
export async function withRetry<T>(
  deps: RetryDeps,
  policy: RetryPolicy,
  attempt: () => Promise<T>,
  mayRetry: (error: unknown, attemptNumber: number) => boolean,
): Promise<T> {
  const startedAt = deps.monotonicMs();
  for (let number = 1; ; number += 1) {
    try {
      return await attempt();
    } catch (error) {
      const ceiling = Math.min(policy.delayMaxMs, policy.baseDelayMs * 2 ** (number - 1));
      const delayMs = deps.random() * ceiling;
      const elapsedMs = deps.monotonicMs() - startedAt;
      const exhausted = number >= policy.attemptsMax || elapsedMs + delayMs > policy.budgetMs;
      if (exhausted || !mayRetry(error, number)) throw error;
      await deps.sleep(delayMs);
    }
  }
}
