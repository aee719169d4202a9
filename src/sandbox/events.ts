import { API_VERSION, add, type Context, seconds } from './context.ts';
import { addCoreEvent } from './coreEvents.ts';
import { openDelivery } from './deliveries.ts';
import { copyJson, isObject, type Json, type JsonObject, type View } from './json.ts';
import { isKnownIn, renderAs } from './oldShapes.ts';
import {
  type EndpointHidden,
  THIN_PREFIX,
  type WebhookEndpointView,
} from './resources/webhookEndpoints.ts';
import { settingsOf } from './settings.ts';
import type { Collection } from './store.ts';
import { coreEvents, events, webhookEndpoints } from './tables.ts';

export type EventView = {
  id: string;
  object: 'event';
  api_version: string;
  created: number;
  data: EventData;
  livemode: false;
  pending_webhooks: number;
  request: { id: string | null; idempotency_key: string | null };
  type: string;
};
type EventData = { object: JsonObject; previous_attributes?: JsonObject };

export type EventHidden = {
  /** Endpoints that have not taken the event yet. */
  waiting: string[];
  /** By older API version, for the endpoints that listened when it was made. */
  renderings?: Record<string, EventData>;
};

/** Stripe lets events be read for 30 days. Seconds. */
export const EVENT_WINDOW_SECONDS = 30 * 24 * 3_600;
/** Kept in memory and journal; older ones go first even inside the window. */
const EVENTS_MAX = 100_000;

/**
 * The only place where events are made. The payload is a snapshot of `object` as it is now, in the
 * shape of each endpoint's API version, and one delivery is opened for each endpoint that listens.
 */
export function emit(
  ctx: Context,
  type: string,
  object: View,
  previousAttributes?: JsonObject,
): EventView {
  const { deliveries, api_version: accountVersion } = settingsOf(ctx);
  const sends = deliveries === 'on';
  const listening = [...ctx.store.walk(webhookEndpoints, 'oldest_first')].filter(
    (endpoint) => sends && listensTo(endpoint, type, accountVersion),
  );
  const told = listening.filter(({ hidden }) => hidden.payload !== 'thin');
  const data: EventData = {
    object: copyJson(object) as unknown as JsonObject,
    ...(previousAttributes ? { previous_attributes: previousAttributes } : {}),
  };
  const versions = new Set(told.map(({ view }) => view.api_version ?? accountVersion));
  versions.add(accountVersion);
  versions.delete(API_VERSION);
  const { view } = add(
    ctx,
    events,
    {
      id: ctx.newId('evt_', 24),
      object: 'event',
      api_version: API_VERSION,
      created: seconds(ctx),
      data,
      livemode: false,
      pending_webhooks: told.length,
      request: ctx.request ?? { id: null, idempotency_key: null },
      type,
    },
    {
      waiting: told.map(({ id }) => id),
      renderings: Object.fromEntries(
        [...versions].map((version) => [version, renderData(ctx, data, version)]),
      ),
    },
  );
  for (const endpoint of told) openDelivery(ctx, view, endpoint.id);
  const thin = listening.filter(({ hidden }) => hidden.payload === 'thin');
  if (thin.length > 0) {
    const core = addCoreEvent(ctx, view);
    for (const endpoint of thin) openDelivery(ctx, core, endpoint.id);
  }
  prune(ctx, events);
  prune(ctx, coreEvents);
  return view;
}

function listensTo(
  { view, hidden }: { view: WebhookEndpointView; hidden: EndpointHidden },
  type: string,
  accountVersion: string,
): boolean {
  if (view.status !== 'enabled') return false;
  const name = hidden.payload === 'thin' ? `${THIN_PREFIX}${type}` : type;
  return (
    (view.enabled_events.includes('*') || view.enabled_events.includes(name)) &&
    isKnownIn(view.api_version ?? accountVersion, type)
  );
}

/**
 * The event as told in a version of the API (default: the account's): as it was when it was made,
 * wherever it can be.
 */
export function eventIn(ctx: Context, id: string, asked: string | null = null): EventView | null {
  const version = asked ?? settingsOf(ctx).api_version;
  const found = ctx.store.get(events, id);
  if (!found) return null;
  if (version === API_VERSION) return found.view;
  const data = found.hidden.renderings?.[version] ?? renderData(ctx, found.view.data, version);
  return { ...found.view, api_version: version, data };
}

function renderData(ctx: Context, data: EventData, version: string): EventData {
  const object = renderAs(ctx, data.object, version);
  if (!data.previous_attributes) return { object };
  const before = renderAs(ctx, undo(data.object, data.previous_attributes), version);
  return { object, previous_attributes: changedMembers(before, object) ?? {} };
}

/** The object before the change. */
function undo(after: JsonObject, previous: JsonObject): JsonObject {
  const restored = Object.entries(previous).map(([key, old]): [string, Json] => {
    const fresh = after[key] ?? null;
    return [key, isObject(old) && isObject(fresh) ? undo(fresh, old) : old];
  });
  return { ...after, ...Object.fromEntries(restored) };
}

function prune<V extends View, H>(ctx: Context, from: Collection<V, H>): void {
  if (ctx.store.size(from) <= EVENTS_MAX) return;
  for (const { id } of ctx.store.walk(from, 'oldest_first')) {
    ctx.store.remove(from, id);
    return;
  }
}

/**
 * The old values of what `after` changed: `previous_attributes` of an `*.updated` event. As at Stripe
 * a group shows only its changed members, with null for one that was not there; lists show whole.
 */
export function changedAttributes(before: View, after: View): JsonObject | null {
  const { updated: _old, ...old } = before as unknown as JsonObject;
  const { updated: _fresh, ...fresh } = after as unknown as JsonObject;
  return changedMembers(old, fresh);
}

function changedMembers(before: JsonObject, after: JsonObject): JsonObject | null {
  const changed: Record<string, Json> = {};
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const old = before[key] ?? null;
    const fresh = after[key] ?? null;
    if (JSON.stringify(old) === JSON.stringify(fresh)) continue;
    changed[key] = isObject(old) && isObject(fresh) ? (changedMembers(old, fresh) ?? old) : old;
  }
  return Object.keys(changed).length > 0 ? changed : null;
}
