import { type Context, seconds } from '../context.ts';
import type { CoreEventView } from '../coreEvents.ts';
import { badRequest, noSuch } from '../errors.ts';
import { EVENT_WINDOW_SECONDS } from '../events.ts';
import { integer, list, refused, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { coreEvents } from '../tables.ts';

const PAGE_DEFAULT = 20;
const PAGE_MAX = 100;
const TYPES_MAX = 20;

const listParams = {
  created: refused('filter by `types` and `object_id`'),
  limit: integer({ min: 1, max: PAGE_MAX }),
  object_id: text(),
  /** Of the link to the next page: the last event of the page before. */
  page: text(),
  types: list(text(100), TYPES_MAX),
};

function isReadable(ctx: Context, { created }: CoreEventView): boolean {
  return Date.parse(created) / 1_000 >= seconds(ctx) - EVENT_WINDOW_SECONDS;
}

/** The second API's events: made only while a thin endpoint listens, read for 30 days. */
export const coreEventRoutes: Route[] = [
  route('GET', '/v2/core/events', listParams, (ctx, given) => {
    const { limit = PAGE_DEFAULT, object_id, page, types } = given;
    if (page !== undefined && !ctx.store.get(coreEvents, page)) {
      throw badRequest('The page token is not one of a list of events.', { param: 'page' });
    }
    const data: CoreEventView[] = [];
    let next: string | null = null;
    for (const { view } of ctx.store.walk(coreEvents, 'newest_first', page)) {
      if (object_id !== undefined && view.related_object?.id !== object_id) continue;
      if (types !== undefined && !types.includes(view.type)) continue;
      if (!isReadable(ctx, view)) continue;
      if (data.length === limit) {
        next = nextPage({ limit, object_id, types, page: data.at(-1)?.id });
        break;
      }
      data.push(view);
    }
    return { data, next_page_url: next, previous_page_url: null };
  }),
  route('GET', '/v2/core/events/:id', {}, (ctx, _params, ids) => {
    const found = ctx.store.get(coreEvents, idOf(ids))?.view;
    if (!found || !isReadable(ctx, found)) throw noSuch('event', idOf(ids), 'id', 404);
    return found;
  }),
];

function nextPage(given: {
  limit: number;
  object_id: string | undefined;
  types: readonly string[] | undefined;
  page: string | undefined;
}): string {
  const query = new URLSearchParams({ limit: String(given.limit), page: given.page ?? '' });
  if (given.object_id !== undefined) query.set('object_id', given.object_id);
  for (const type of given.types ?? []) query.append('types', type);
  return `/v2/core/events?${query}`;
}
