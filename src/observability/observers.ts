/**
 * What the parts of Purser tell whoever counts. The domains take single functions of these, handed
 * in by the composition root, and know nothing of metrics.
 */
export interface Observers {
  /** An answered request. `route` is the template of the path, never the path. */
  request(request: {
    route: string;
    method: string;
    status: number;
    seconds: number;
    /** Mutations in it whose key had been used before. */
    replays: number;
  }): void;
  /** A delivery that was committed, or found to be there already. */
  delivery(delivery: { duplicate: boolean }): void;
  /** The end of an attempt at an event. `lagSeconds`: from Stripe's `created` to now. */
  event(event: { type: string; outcome: string; attempt: number; lagSeconds: number | null }): void;
  /** A call of the coalescer as it is sent. */
  spendCall(call: { operations: number; alone: boolean; waiting: number }): void;
  job(
    run: { job: string; outcome: string; result: Record<string, unknown> },
    seconds: number,
  ): void;
  /** An operation on Redis: `hit`, `miss`, `applied`, `equal`, `stale`, `ok` or `failed`. */
  redis(operation: string, result: string, times: number): void;
}

/** For processes that nobody scrapes: an instance of a function lives for minutes. */
export const noObservers: Observers = {
  request: () => {},
  delivery: () => {},
  event: () => {},
  spendCall: () => {},
  job: () => {},
  redis: () => {},
};
