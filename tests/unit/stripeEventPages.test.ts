import { describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { type MissedEventsWindow, walkStripeEvents } from '../../src/webhook/stripeEventPages.ts';

/** Stripe's listing: newest first, 100 a page, `created` filtered, going on after an id. */
function listingOf(seconds: number[]) {
  const events = seconds
    .map((created, index) => ({ id: `evt_${index}`, created }) as Stripe.Event)
    .sort((a, b) => b.created - a.created);
  let calls = 0;
  return {
    calls: () => calls,
    list: async ({ created, starting_after }: MissedEventsWindow) => {
      calls += 1;
      const within = events.filter(
        (event) => event.created >= created.gte && event.created < (created.lt ?? Infinity),
      );
      const start = within.findIndex(({ id }) => id === starting_after) + 1;
      return { data: within.slice(start, start + 100), has_more: within.length > start + 100 };
    },
  };
}

async function walk(listing: ReturnType<typeof listingOf>, since: number, spansMax = Infinity) {
  const seen: Stripe.Event[] = [];
  let until: number | null = since;
  let spans = 0;
  for await (const span of walkStripeEvents(
    listing.list,
    new Date(since * 1000),
    () => spans >= spansMax,
  )) {
    spans += 1;
    seen.push(...span.events);
    until = span.until === null ? null : span.until.getTime() / 1000;
  }
  return { seen, until };
}

const times = (n: number, at: (index: number) => number) =>
  Array.from({ length: n }, (_, index) => at(index));

describe('the walk over events at Stripe', () => {
  it.each<[string, number[]]>([
    ['none', []],
    ['one page', times(40, (n) => 1_000 + n)],
    ['exactly the pages of a span', times(500, (n) => 1_000 + n)],
    ['many more', times(3_000, (n) => 1_000 + n * 7)],
    ['a burst in one second', times(1_200, () => 5_000)],
    ['a burst, then silence, then one', [...times(900, (n) => 1_000 + (n % 10)), 2_000_000]],
  ])('meets each once, oldest first: %s', async (_what, seconds) => {
    const { seen, until } = await walk(listingOf(seconds), 1_000);
    expect(new Set(seen.map(({ id }) => id)).size).toBe(seconds.length);
    expect(seen.map(({ created }) => created)).toEqual(seconds.toSorted((a, b) => a - b));
    expect(until).toBeNull();
  });

  it('goes on where it was stopped', async () => {
    const seconds = times(3_000, (n) => 1_000 + n);
    const listing = listingOf(seconds);
    const first = await walk(listing, 1_000, 2);
    expect(first.seen.length).toBeLessThan(3_000);
    const rest = await walk(listing, first.until ?? 0);
    expect([...first.seen, ...rest.seen].map(({ created }) => created)).toEqual(seconds);
  });

  it('asks once where there is little', async () => {
    const listing = listingOf([1_000, 2_000_000]);
    await walk(listing, 1_000);
    expect(listing.calls()).toBe(1);
  });
});
