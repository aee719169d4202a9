/** One way to call, whichever adapter: an attempt, its classification, bounded repeats. */
import { setTimeout as sleepMs } from 'node:timers/promises';
import type { Logger } from '../core/ports.ts';
import type { AttemptContext, CallFailure } from './callFailure.ts';
import { DEFAULT_RETRY, type RetryDeps, type RetryPolicy, withRetry } from './retry.ts';

export interface RepeatOptions {
  logger?: Logger;
  retry?: Partial<RetryPolicy>;
  /** Seams for tests; default the real ones. */
  deps?: Partial<RetryDeps>;
}

export interface RepeatableCall<T> {
  functionName: string;
  /** A call that is not is repeated only when it is certain that it changed nothing. */
  idempotent: boolean;
  attempt(context: AttemptContext): Promise<T>;
  classify(cause: unknown, context: AttemptContext): CallFailure;
}

/** Gives the function that runs calls; it rejects with the `PurserError` of the last attempt. */
export function createRepeater(options: RepeatOptions): <T>(call: RepeatableCall<T>) => Promise<T> {
  const policy: RetryPolicy = { ...DEFAULT_RETRY, ...options.retry };
  const deps: RetryDeps = {
    random: Math.random,
    sleep: (ms) => sleepMs(ms),
    monotonicMs: () => performance.now(),
    ...options.deps,
  };

  return async ({ functionName, idempotent, attempt, classify }) =>
    withRetry(
      deps,
      policy,
      async () => {
        const context: AttemptContext = { functionName, sent: false };
        try {
          return await attempt(context);
        } catch (error) {
          throw new AttemptError(classify(error, context));
        }
      },
      (error, attemptNumber) => {
        const { failure } = error as AttemptError;
        const again = failure.transient && (failure.effect === 'none' || idempotent);
        if (again) {
          options.logger?.debug('Database call failed and may be repeated', {
            function: functionName,
            attempt: attemptNumber,
            effect: failure.effect,
            reason: failure.error.message,
          });
        }
        return again;
      },
    ).catch((error: unknown) => {
      throw error instanceof AttemptError ? error.failure.error : error;
    });
}

/** Carries the classified failure of one attempt through the retry loop. */
class AttemptError extends Error {
  readonly failure: CallFailure;
  constructor(failure: CallFailure) {
    super(failure.error.message);
    this.failure = failure;
  }
}
