import type { Context } from './context.ts';
import { badRequest, noSuch } from './errors.ts';
import type { Row } from './journal.ts';
import type { View } from './json.ts';
import { PAGE_DEFAULT, type Range } from './params.ts';
import type { Collection } from './store.ts';

interface Paging {
  readonly limit?: number | undefined;
  readonly starting_after?: string | undefined;
  readonly ending_before?: string | undefined;
}

interface ListView<V = View> {
  readonly object: 'list';
  readonly data: V[];
  readonly has_more: boolean;
  readonly url: string;
}

/** The rows of one owner, by an index of the collection; undefined: nobody asked for one. */
interface Among {
  readonly index: string;
  readonly value: string | undefined;
}

/** Newest first, as Stripe lists. The cursor must exist; the filter does not apply to it. */
export function listRows<V extends View, H>(
  ctx: Context,
  from: Collection<V, H>,
  url: string,
  paging: Paging,
  matches: (row: Row<V, H>) => boolean = () => true,
  among?: Among,
): ListView<V> {
  const back = oneCursor(paging);
  const cursor = paging.ending_before ?? paging.starting_after;
  if (cursor !== undefined && !ctx.store.get(from, cursor)) {
    throw noSuch(
      from.name.replace(/e?s$/, ''),
      cursor,
      back ? 'ending_before' : 'starting_after',
      400,
    );
  }
  if (among?.value !== undefined) {
    const rows = ctx.store.lookUp(from, among.index, among.value);
    if (!back) rows.reverse();
    const at = rows.findIndex(({ id }) => id === cursor);
    // A cursor of somebody else is a place in the whole list only.
    if (cursor === undefined || at !== -1)
      return take(rows.slice(at + 1), url, paging, back, matches, (row) => row.view);
  }
  const walk = ctx.store.walk(from, back ? 'oldest_first' : 'newest_first', cursor);
  return take(walk, url, paging, back, matches, (row) => row.view);
}

/** A list that is part of another object (lines, items): in its own order, oldest first. */
export function listItems<V extends View>(
  items: readonly V[],
  url: string,
  paging: Paging,
): ListView<V> {
  const back = oneCursor(paging);
  const cursor = paging.ending_before ?? paging.starting_after;
  const at = cursor === undefined ? -1 : items.findIndex((item) => item.id === cursor);
  if (cursor !== undefined && at === -1) {
    throw noSuch('item', cursor, back ? 'ending_before' : 'starting_after', 400);
  }
  const rest = back ? items.slice(0, at).reverse() : items.slice(at + 1);
  return take(
    rest,
    url,
    paging,
    back,
    () => true,
    (item) => item,
  );
}

function oneCursor(paging: Paging): boolean {
  if (paging.ending_before !== undefined && paging.starting_after !== undefined) {
    throw badRequest(
      'You may only specify one of these parameters: ending_before, starting_after.',
      {
        param: 'ending_before',
      },
    );
  }
  return paging.ending_before !== undefined;
}

function take<T, V>(
  source: Iterable<T>,
  url: string,
  paging: Paging,
  back: boolean,
  matches: (item: T) => boolean,
  show: (item: T) => V,
): ListView<V> {
  const limit = paging.limit ?? PAGE_DEFAULT;
  const data: V[] = [];
  for (const item of source) {
    if (!matches(item)) continue;
    if (data.length === limit) {
      return { object: 'list', data: back ? data.reverse() : data, has_more: true, url };
    }
    data.push(show(item));
  }
  return { object: 'list', data: back ? data.reverse() : data, has_more: false, url };
}

export function inRange(value: number, range: Range | undefined): boolean {
  return (
    range === undefined ||
    ((range.gt === undefined || value > range.gt) &&
      (range.gte === undefined || value >= range.gte) &&
      (range.lt === undefined || value < range.lt) &&
      (range.lte === undefined || value <= range.lte))
  );
}

/** A filter that is absent matches everything. */
export function matchesFilter<T>(filter: T | undefined, value: T | null): boolean {
  return filter === undefined || filter === value;
}
