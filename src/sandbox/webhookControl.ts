import { z } from 'zod';
import type { Context } from './context.ts';
import { parseControl } from './controlBody.ts';
import type { ControlRoute, Instance } from './controlRoute.ts';
import { DELIVERY_STATUSES, openDelivery } from './deliveries.ts';
import { badRequest, noSuch } from './errors.ts';
import { createEndpoint, isEventType, knownEvents } from './resources/webhookEndpoints.ts';
import { coreEvents, deliveries, events, webhookEndpoints } from './tables.ts';
import { EVENT_VERSIONS } from './versions.ts';

/** Deliveries in one answer. */
const DELIVERY_PAGE_MAX = 1_000;
const FILTERS = ['event', 'type', 'status', 'limit'];

const endpointSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  api_version: z.enum(EVENT_VERSIONS).optional(),
  payload: z.enum(['snapshot', 'thin']).default('snapshot'),
  secret: z.string().min(8).regex(/^\S+$/, 'no whitespace').optional(),
  name: z.string().min(1).max(100).optional(),
  enabled_events: z.array(z.string()).min(1).optional(),
});

const resendSchema = z.strictObject({ endpoint: z.string().optional() });

/** Where events go, what has become of them, and sending them once more. */
export const webhookControl: readonly ControlRoute[] = [
  {
    method: 'GET',
    pattern: /^\/_sandbox\/deliveries$/,
    run: (ctx, { query }) => listDeliveries(ctx, query),
  },
  {
    method: 'PUT',
    pattern: /^\/_sandbox\/webhook_endpoint$/,
    run: (ctx, { body, instance }) =>
      ensureEndpoint(ctx, parseControl(endpointSchema, body), instance),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/events\/([^/]+)\/resend$/,
    run: (ctx, { id, body }) => resend(ctx, id, parseControl(resendSchema, body).endpoint),
  },
];

function ensureEndpoint(
  ctx: Context,
  given: z.output<typeof endpointSchema>,
  instance: Instance,
): { id: string; secret: string } {
  const { payload, url } = given;
  const enabled = knownEvents(given.enabled_events ?? ['*'], payload);
  const present = [...ctx.store.walk(webhookEndpoints, 'oldest_first')].find(
    ({ view, hidden }) =>
      (hidden.payload ?? 'snapshot') === payload &&
      (given.name === undefined ? view.url === url : view.metadata.sandbox_name === given.name),
  );
  if (present) {
    const secret = given.secret ?? present.hidden.secret;
    const api_version = given.api_version ?? present.view.api_version;
    ctx.store.patch(
      webhookEndpoints,
      present.id,
      { url, api_version, status: 'enabled', enabled_events: enabled },
      { secret },
    );
    return { id: present.id, secret };
  }
  const { id, hidden } = createEndpoint(ctx, {
    url,
    payload,
    api_version: given.api_version,
    enabled_events: enabled,
    secret: given.secret ?? instance.webhookSecret,
    ...(given.name === undefined ? {} : { metadata: { sandbox_name: given.name } }),
  });
  return { id, secret: hidden.secret };
}

/** A thin event goes to thin endpoints, and only to them. */
function resend(ctx: Context, id: string, endpoint: string | undefined) {
  const core = ctx.store.get(coreEvents, id)?.view;
  const event = core ?? ctx.store.get(events, id)?.view;
  if (!event) throw noSuch('event', id, 'id', 404);
  const targets = [...ctx.store.walk(webhookEndpoints, 'oldest_first')].filter(
    ({ id: target, view, hidden }) =>
      view.status === 'enabled' &&
      (hidden.payload === 'thin') === (core !== undefined) &&
      (endpoint === undefined || target === endpoint),
  );
  if (targets.length === 0) {
    throw badRequest('There is no enabled webhook endpoint to send this event to.', {
      param: 'endpoint',
    });
  }
  return { data: targets.map((row) => openDelivery(ctx, event, row.id, { faults: false })) };
}

function listDeliveries(ctx: Context, query: URLSearchParams) {
  const { event, type, status, limit } = filterOf(query);
  const data = [];
  for (const { view } of ctx.store.walk(deliveries, 'newest_first')) {
    if (event && view.event !== event) continue;
    if (type && view.event_type !== type) continue;
    if (status && view.status !== status) continue;
    if (data.length === limit) return { data, has_more: true };
    data.push(view);
  }
  return { data, has_more: false };
}

/** A misspelt filter must not look like a webhook that was never sent. @throws ApiError 400 */
function filterOf(query: URLSearchParams) {
  const unknown = [...query.keys()].find((name) => !FILTERS.includes(name));
  if (unknown !== undefined) {
    throw badRequest(`${unknown} is not a filter: use ${FILTERS.join(', ')}.`, { param: unknown });
  }
  const limit = Number(query.get('limit') ?? DELIVERY_PAGE_MAX);
  if (!Number.isInteger(limit) || limit < 1 || limit > DELIVERY_PAGE_MAX) {
    throw badRequest(`limit must be between 1 and ${DELIVERY_PAGE_MAX}.`, { param: 'limit' });
  }
  const [event, type, status] = ['event', 'type', 'status'].map((name) => query.get(name));
  if (type && !isEventType(type, 'snapshot') && !isEventType(type, 'thin')) {
    throw badRequest(`${type} is not an event type.`, { param: 'type' });
  }
  if (status && !DELIVERY_STATUSES.some((known) => known === status)) {
    throw badRequest(`status must be one of ${DELIVERY_STATUSES.join(', ')}.`, { param: 'status' });
  }
  return { event, type, status, limit };
}
