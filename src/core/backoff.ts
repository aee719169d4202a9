/** Where randomness comes from; injected so that tests are repeatable. Returns 0 <= n < 1. */
export type Random = () => number;

/**
 * Waits between attempts at an event, in seconds: 10 attempts over about 28 hours, longer than an
 * evening without anybody at the console. After the last the event is dead and needs a person.
 */
export const EVENT_RETRY_SECONDS = [5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 36_000] as const;

/**
 * How long to wait after the given failed attempt (1 = the first), with +-10 % jitter so that a
 * thousand events that failed together do not come back together, and never below 24 h in all. Null = give up.
 */
export function retryDelaySeconds(attempt: number, random: Random): number | null {
  const delay = EVENT_RETRY_SECONDS[attempt - 1];
  return delay === undefined ? null : delay * (0.9 + 0.2 * random());
}
