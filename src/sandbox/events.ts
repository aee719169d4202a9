import { API_VERSION, add, type Context, seconds } from './context.ts';
import { openDelivery } from './deliveries.ts';
import type { Json, JsonObject, View } from './json.ts';
import { settingsOf } from './settings.ts';
import { events, webhookEndpoints } from './tables.ts';

export type EventView = {
  id: string;
  object: 'event';
  api_version: string;
  created: number;
  data: { object: JsonObject; previous_attributes?: JsonObject };
  livemode: false;
  pending_webhooks: number;
  request: { id: string | null; idempotency_key: string | null };
  type: string;
};

/** Endpoints that have not taken the event yet. */
export type EventHidden = { waiting: string[] };

/** Stripe lets events be read for 30 days. Seconds. */
export const EVENT_WINDOW_SECONDS = 30 * 24 * 3_600;
/** Kept in memory and journal; older ones go first even inside the window. */
const EVENTS_MAX = 100_000;

/**
 * The only place where events are made. The payload is a snapshot of `object` as it is now, and one
 * delivery is opened for each endpoint that listens to the type.
 */
export function emit(
  ctx: Context,
  type: string,
  object: View,
  previousAttributes?: JsonObject,
): EventView {
  const sends = settingsOf(ctx).deliveries === 'on';
  const listening = [...ctx.store.walk(webhookEndpoints, 'oldest_first')].filter(
    ({ view }) =>
      sends &&
      view.status === 'enabled' &&
      (view.enabled_events.includes('*') || view.enabled_events.includes(type)),
  );
  const { view } = add(
    ctx,
    events,
    {
      id: ctx.newId('evt_', 24),
      object: 'event',
      api_version: API_VERSION,
      created: seconds(ctx),
      data: {
        object: structuredClone(object) as unknown as JsonObject,
        ...(previousAttributes ? { previous_attributes: previousAttributes } : {}),
      },
      livemode: false,
      pending_webhooks: listening.length,
      request: ctx.request ?? { id: null, idempotency_key: null },
      type,
    },
    { waiting: listening.map(({ id }) => id) },
  );
  for (const endpoint of listening) openDelivery(ctx, view, endpoint.id);
  prune(ctx);
  return view;
}

function prune(ctx: Context): void {
  if (ctx.store.size(events) <= EVENTS_MAX) return;
  for (const { id } of ctx.store.walk(events, 'oldest_first')) {
    ctx.store.remove(events, id);
    return;
  }
}

/** The old values of what `after` changed: `previous_attributes` of an `*.updated` event. */
export function changedAttributes(before: View, after: View): JsonObject | null {
  const old = before as unknown as JsonObject;
  const fresh = after as unknown as JsonObject;
  const changed: Record<string, Json> = {};
  for (const key of Object.keys(fresh)) {
    if (key === 'updated') continue;
    if (JSON.stringify(old[key] ?? null) !== JSON.stringify(fresh[key] ?? null)) {
      changed[key] = old[key] ?? null;
    }
  }
  return Object.keys(changed).length > 0 ? changed : null;
}
