import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { EVENT_TYPES } from '../eventTypes.ts';
import { listRows } from '../listing.ts';
import {
  choice,
  clearable,
  expand,
  flag,
  list,
  metadata,
  paging,
  refused,
  required,
  text,
  url,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { webhookEndpoints } from '../tables.ts';
import { EVENT_VERSIONS } from '../versions.ts';
import { applyMetadata, type Metadata } from './fields.ts';

export type WebhookEndpointView = {
  id: string;
  object: 'webhook_endpoint';
  api_version: string | null;
  application: null;
  created: number;
  description: string | null;
  enabled_events: string[];
  livemode: false;
  metadata: Metadata;
  status: 'enabled' | 'disabled';
  url: string;
};
export type EndpointHidden = {
  secret: string;
  /** `thin`: told what happened to which object, and nothing of the object itself. */
  payload: 'snapshot' | 'thin';
};

/** Stripe's limit of endpoints in one account. */
const ENDPOINTS_MAX = 16;

const enabledEvents = list(text(100), 300);

const createParams = {
  api_version: choice(...EVENT_VERSIONS),
  connect: refused(),
  description: clearable(text()),
  enabled_events: required(enabledEvents),
  expand,
  metadata,
  url: required(url),
};
const updateParams = {
  description: clearable(text()),
  disabled: flag,
  enabled_events: enabledEvents,
  expand,
  metadata,
  url,
};

interface NewEndpoint {
  readonly url: string;
  readonly enabled_events: string[];
  readonly secret?: string;
  /** Default `snapshot`. A thin endpoint belongs to the second API: the first does not list it. */
  readonly payload?: EndpointHidden['payload'];
  readonly api_version?: string | undefined;
  readonly description?: string | null | undefined;
  readonly metadata?: Metadata | null | undefined;
}

export function createEndpoint(ctx: Context, given: NewEndpoint) {
  if (ctx.store.size(webhookEndpoints) >= ENDPOINTS_MAX) {
    throw badRequest(`You have reached the maximum of ${ENDPOINTS_MAX} webhook endpoints.`);
  }
  return add(
    ctx,
    webhookEndpoints,
    {
      id: ctx.newId(given.payload === 'thin' ? 'ed_test_' : 'we_'),
      object: 'webhook_endpoint',
      api_version: given.api_version ?? null,
      application: null,
      created: seconds(ctx),
      description: given.description ?? null,
      enabled_events: knownEvents(given.enabled_events, given.payload),
      livemode: false,
      metadata: applyMetadata({}, given.metadata),
      status: 'enabled',
      url: given.url,
    },
    {
      secret: given.secret ?? ctx.newId('whsec_', 32),
      payload: given.payload ?? 'snapshot',
    },
  );
}

function findEndpoint(ctx: Context, id: string): WebhookEndpointView {
  const found = ctx.store.get(webhookEndpoints, id);
  if (!found || found.hidden.payload === 'thin') throw noSuch('webhook endpoint', id, 'id', 404);
  return found.view;
}

/** Types of the second API are those of the first with this before them. */
export const THIN_PREFIX = 'v1.';

/** Whether Stripe has such events, by the names of the first API (`snapshot`) or the second. */
export function isEventType(type: string, payload: EndpointHidden['payload']): boolean {
  const prefix = payload === 'thin' ? THIN_PREFIX : '';
  return type.startsWith(prefix) && EVENT_TYPES.has(type.slice(prefix.length));
}

/** @throws ApiError 400 for a type Stripe does not have. */
export function knownEvents(
  types: string[],
  payload: EndpointHidden['payload'] = 'snapshot',
): string[] {
  if (types.length === 0) {
    throw badRequest('Missing required param: enabled_events.', {
      param: 'enabled_events',
      code: 'parameter_missing',
    });
  }
  types.forEach((type, at) => {
    if (type !== '*' && !isEventType(type, payload)) {
      throw badRequest(`Invalid enabled_events[${at}]: ${type} is not an event type.`, {
        param: `enabled_events[${at}]`,
      });
    }
  });
  return types;
}

export const webhookEndpointRoutes: Route[] = [
  // The secret is shown once, when the endpoint is made.
  route('POST', '/v1/webhook_endpoints', createParams, (ctx, given) => {
    const { view, hidden } = createEndpoint(ctx, given);
    return { ...view, secret: hidden.secret };
  }),
  route('GET', '/v1/webhook_endpoints', paging, (ctx, filter) =>
    listRows(
      ctx,
      webhookEndpoints,
      '/v1/webhook_endpoints',
      filter,
      ({ hidden }) => hidden.payload !== 'thin',
    ),
  ),
  route('GET', '/v1/webhook_endpoints/:id', { expand }, (ctx, _params, ids) =>
    findEndpoint(ctx, idOf(ids)),
  ),
  route('POST', '/v1/webhook_endpoints/:id', updateParams, (ctx, given, ids) => {
    const before = findEndpoint(ctx, idOf(ids));
    return ctx.store.patch(webhookEndpoints, before.id, {
      ...(given.url === undefined ? {} : { url: given.url }),
      ...(given.description === undefined ? {} : { description: given.description }),
      ...(given.enabled_events === undefined
        ? {}
        : { enabled_events: knownEvents(given.enabled_events) }),
      ...(given.disabled === undefined
        ? {}
        : { status: given.disabled ? ('disabled' as const) : ('enabled' as const) }),
      metadata: applyMetadata(before.metadata, given.metadata),
    }).view;
  }),
  route('DELETE', '/v1/webhook_endpoints/:id', {}, (ctx, _params, ids) => {
    const { id, object } = findEndpoint(ctx, idOf(ids));
    ctx.store.remove(webhookEndpoints, id);
    return { id, object, deleted: true };
  }),
];
