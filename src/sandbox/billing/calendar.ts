/** Periods of subscriptions. Times are Unix seconds, days are UTC days, as at Stripe. */

export interface Interval {
  readonly interval: 'day' | 'week' | 'month' | 'year';
  readonly interval_count: number;
}
export interface Period {
  readonly start: number;
  readonly end: number;
}

const DAY = 86_400;
const MONTH_SHORTEST = 28 * DAY;

/**
 * `cycles` intervals after the anchor. Months keep the anchor's day and fall back to their last day
 * where they are shorter: an anchor of January 31st bills on February 28th and on March 31st.
 */
export function addCycles(anchor: number, every: Interval, cycles: number): number {
  const count = every.interval_count * cycles;
  switch (every.interval) {
    case 'day':
      return anchor + count * DAY;
    case 'week':
      return anchor + count * 7 * DAY;
    case 'month':
      return addMonths(anchor, count);
    case 'year':
      return addMonths(anchor, count * 12);
  }
}

export function addMonths(from: number, count: number): number {
  const date = new Date(from * 1_000);
  const month = date.getUTCMonth() + count;
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), month + 1, 0)).getUTCDate();
  const midnight = Date.UTC(date.getUTCFullYear(), month, Math.min(date.getUTCDate(), lastDay));
  return midnight / 1_000 + (from % DAY);
}

/** The period that contains `at`, counted from the anchor. Before the anchor it ends there. */
export function periodAt(anchor: number, every: Interval, at: number): Period {
  if (at < anchor) return { start: at, end: anchor };
  const shortest =
    every.interval === 'day' || every.interval === 'week'
      ? addCycles(0, every, 1)
      : MONTH_SHORTEST * every.interval_count * (every.interval === 'year' ? 12 : 1);
  // Never too few: the quotient by the shortest period is an upper bound, walked down from.
  let cycle = Math.ceil((at - anchor) / shortest);
  while (cycle > 0 && addCycles(anchor, every, cycle) > at) cycle -= 1;
  return { start: addCycles(anchor, every, cycle), end: addCycles(anchor, every, cycle + 1) };
}

/** For descriptions of lines, e.g. `15 Feb 2026`. */
export function dayText(at: number): string {
  const date = new Date(at * 1_000);
  const month = date.toLocaleString('en', { month: 'short', timeZone: 'UTC' });
  return `${date.getUTCDate()} ${month} ${date.getUTCFullYear()}`;
}
