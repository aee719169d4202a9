import type Stripe from 'stripe';

/** What `events.list` is asked for: a span of time, and where its page begins. */
export interface MissedEventsWindow {
  created: { gte: number; lt?: number };
  starting_after?: string;
}

type ListEvents = (
  window: MissedEventsWindow,
) => Promise<Pick<Stripe.ApiList<Stripe.Event>, 'data' | 'has_more'>>;

/** Pages read before a span counts as too long; they are held in memory. */
const PAGES_MAX = 5;
/** A single second cannot be divided; this many pages of it are read, 10,000 events. */
const PAGES_OF_A_SECOND_MAX = 100;

/** Events of one span, oldest first; `until` null = the last span, open at its end. */
export interface EventSpan {
  events: Stripe.Event[];
  until: Date | null;
}

/**
 * Walks Stripe's events from a time on, oldest first. Stripe lists the newest first, so a span with
 * too many pages is cut in half until it fits, and grows again where there is little. Ends after
 * the open span, or when `shouldStop` says so. One request at a time; a failed one ends the walk,
 * and whoever remembers `until` goes on there.
 */
export async function* walkStripeEvents(
  list: ListEvents,
  since: Date,
  shouldStop: () => boolean,
): AsyncGenerator<EventSpan> {
  let from = Math.floor(since.getTime() / 1000);
  let until: number | null = null;
  /** The newest event there was when the walk began. */
  let newestKnown = 0;
  while (!shouldStop()) {
    const indivisible: boolean = until !== null && until - from <= 1;
    const pagesMax = indivisible ? PAGES_OF_A_SECOND_MAX : PAGES_MAX;
    const { events, whole } = await readSpan(list, { from, until, pagesMax });
    newestKnown = Math.max(newestKnown, events[0]?.created ?? 0);
    if (!whole && !indivisible) {
      const end: number = until ?? newestKnown + 1;
      until = from + Math.max(1, Math.floor((end - from) / 2));
      continue;
    }
    yield { events: events.reverse(), until: until === null ? null : new Date(until * 1000) };
    if (until === null) return;
    const next: number = until + 2 * (until - from);
    from = until;
    until = next > newestKnown ? null : next;
  }
}

/** The events of a span, newest first; `whole` false when there are more pages than allowed. */
async function readSpan(
  list: ListEvents,
  { from, until, pagesMax }: { from: number; until: number | null; pagesMax: number },
): Promise<{ events: Stripe.Event[]; whole: boolean }> {
  const created = { gte: from, ...(until === null ? {} : { lt: until }) };
  const events: Stripe.Event[] = [];
  for (let page = 0; page < pagesMax; page += 1) {
    const last = events.at(-1);
    const { data, has_more } = await list({
      created,
      ...(last === undefined ? {} : { starting_after: last.id }),
    });
    events.push(...data);
    if (!has_more || data.length === 0) return { events, whole: true };
  }
  return { events, whole: false };
}
