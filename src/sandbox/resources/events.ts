import { seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { EVENT_WINDOW_SECONDS, eventIn } from '../events.ts';
import { inRange, listRows } from '../listing.ts';
import { expand, flag, list, paging, range, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { events } from '../tables.ts';

/** Stripe's limit of `types` in one listing. */
const EVENT_TYPES_MAX = 20;

const listParams = {
  ...paging,
  created: range,
  delivery_success: flag,
  type: text(100),
  types: list(text(100), EVENT_TYPES_MAX),
};

export const eventRoutes: Route[] = [
  route('GET', '/v1/events', listParams, (ctx, filter) => {
    if (filter.type !== undefined && filter.types !== undefined) {
      throw badRequest('You may only specify one of these parameters: type, types.', {
        param: 'type',
      });
    }
    const wanted = typeMatcher(filter.types ?? (filter.type === undefined ? null : [filter.type]));
    const since = seconds(ctx) - EVENT_WINDOW_SECONDS;
    const page = listRows(
      ctx,
      events,
      '/v1/events',
      filter,
      ({ view }) =>
        view.created >= since &&
        wanted(view.type) &&
        // False means "not taken by every endpoint yet", whether still trying or given up.
        (filter.delivery_success === undefined ||
          filter.delivery_success === (view.pending_webhooks === 0)) &&
        inRange(view.created, filter.created),
    );
    // In the account's version: the shape an endpoint is told is the endpoint's own matter.
    return { ...page, data: page.data.map(({ id }) => eventIn(ctx, id)) };
  }),
  route('GET', '/v1/events/:id', { expand }, (ctx, _params, ids) => {
    const found = ctx.store.get(events, idOf(ids));
    if (!found || found.view.created < seconds(ctx) - EVENT_WINDOW_SECONDS) {
      throw noSuch('event', idOf(ids), 'id', 404);
    }
    return eventIn(ctx, found.id);
  }),
];

/** `charge.*` stands for every event of charges. */
function typeMatcher(types: readonly string[] | null): (type: string) => boolean {
  if (types === null) return () => true;
  return (type) =>
    types.some((wanted) =>
      wanted.endsWith('*') ? type.startsWith(wanted.slice(0, -1)) : wanted === type,
    );
}
