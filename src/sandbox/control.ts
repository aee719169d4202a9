import { z } from 'zod';
import { seedCatalogue } from './catalogue.ts';
import { purchase, settle, successUrl } from './checkout.ts';
import { API_VERSION, type Context } from './context.ts';
import { billingControl } from './controlBilling.ts';
import { parseControl } from './controlBody.ts';
import type { ControlCall, ControlRoute, Instance } from './controlRoute.ts';
import { openDelivery } from './deliveries.ts';
import { badRequest, noSuch, unknownUrl } from './errors.ts';
import { faultControl } from './faultControl.ts';
import { moneyBackControl } from './moneyBackControl.ts';
import { expireSession, findSession } from './resources/checkoutSessions.ts';
import { createEndpoint, knownEvents } from './resources/webhookEndpoints.ts';
import { openShopSession } from './shopSession.ts';
import { statusControl } from './statusControl.ts';
import { coreEvents, deliveries, events, webhookEndpoints } from './tables.ts';
import { EVENT_VERSIONS } from './versions.ts';

/** Deliveries in one answer. */
const DELIVERY_PAGE_MAX = 1_000;
/** Objects in one catalogue. */
const CATALOGUE_MAX = 1_000;

const seedText = z.string().min(1).max(250);
const seedMetadata = z.record(z.string().max(40), z.string().max(500));
const catalogueSchema = z.strictObject({
  products: z
    .array(
      z.strictObject({
        id: seedText,
        name: seedText,
        description: z.string().max(40_000).nullish(),
        metadata: seedMetadata.optional(),
        active: z.boolean().optional(),
      }),
    )
    .max(CATALOGUE_MAX),
  prices: z
    .array(
      z.strictObject({
        id: seedText,
        product: seedText,
        currency: z.string().regex(/^[a-z]{3}$/, 'a three-letter lower-case currency code'),
        unit_amount: z.int().min(0).max(99_999_999),
        lookup_key: z.string().min(1).max(200).nullish(),
        nickname: z.string().max(5_000).nullish(),
        metadata: seedMetadata.optional(),
        active: z.boolean().optional(),
        recurring: z
          .strictObject({
            interval: z.enum(['day', 'week', 'month', 'year']),
            interval_count: z.int().min(1).max(1_095).optional(),
          })
          .nullish(),
      }),
    )
    .max(CATALOGUE_MAX),
});

const endpointSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  api_version: z.enum(EVENT_VERSIONS).optional(),
  payload: z.enum(['snapshot', 'thin']).default('snapshot'),
  secret: z.string().min(8).regex(/^\S+$/, 'no whitespace').optional(),
  name: z.string().min(1).max(100).optional(),
  enabled_events: z.array(z.string()).min(1).optional(),
});

const OUTCOMES = {
  succeeded: { method: 'card', cardNumber: '4242424242424242' },
  declined: { method: 'card', cardNumber: '4000000000000002' },
  settles_later: { method: 'us_bank_account', bankAccount: '000123456789' },
  fails_later: { method: 'us_bank_account', bankAccount: '000222222227' },
} as const;

const paySchema = z.strictObject({
  outcome: z.enum(['succeeded', 'declined', 'settles_later', 'fails_later']).default('succeeded'),
  card_number: z
    .string()
    .regex(/^\d{12,19}$/)
    .optional(),
  email: z.email().optional(),
  name: z.string().max(256).optional(),
  promotion_code: z.string().max(500).optional(),
  quantities: z.record(z.string(), z.int().min(1)).optional(),
});

const buySchema = paySchema.omit({ quantities: true }).extend({
  price: z.string().min(1),
  quantity: z.int().min(1).optional(),
  customer: z.string().min(1).optional(),
  invoice: z.boolean().optional(),
  client_reference_id: z.string().min(1).max(200).optional(),
  trial_days: z.int().min(1).max(730).optional(),
  metadata: seedMetadata.optional(),
  /** False: only the open session, to be paid by hand. */
  pay: z.boolean().default(true),
});

const settleSchema = z.strictObject({
  outcome: z.enum(['succeeded', 'failed']).default('succeeded'),
});

const resendSchema = z.strictObject({ endpoint: z.string().optional() });
const emptySchema = z.strictObject({});

const NO_FUNDS = {
  code: 'insufficient_funds',
  decline_code: null,
  message: "The customer's account has insufficient funds to cover this payment.",
};

const routes: readonly ControlRoute[] = [
  {
    method: 'GET',
    pattern: /^\/_sandbox\/health$/,
    run: (ctx, { instance }) => ({
      status: 'ok',
      instance: instance.instance,
      pid: instance.pid,
      origin: ctx.origin(),
      api_version: API_VERSION,
    }),
  },
  {
    method: 'GET',
    pattern: /^\/_sandbox\/deliveries$/,
    run: (ctx, { query }) => listDeliveries(ctx, query),
  },
  {
    method: 'PUT',
    pattern: /^\/_sandbox\/catalogue$/,
    run: (ctx, { body }) => {
      const catalogue = parseControl(catalogueSchema, body);
      seedCatalogue(ctx, catalogue);
      return { products: catalogue.products.length, prices: catalogue.prices.length };
    },
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
  {
    method: 'POST',
    pattern: /^\/_sandbox\/buy$/,
    run: (ctx, { body }) => {
      const { pay: paid, ...given } = parseControl(buySchema, body);
      const session = openShopSession(ctx, given);
      return paid ? pay(ctx, session.id, given) : { outcome: 'open', session };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/checkout\/sessions\/([^/]+)\/pay$/,
    run: (ctx, { id, body }) => pay(ctx, id, parseControl(paySchema, body)),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/checkout\/sessions\/([^/]+)\/decline$/,
    run: (ctx, { id, body }) =>
      pay(ctx, id, {
        ...parseControl(paySchema.omit({ outcome: true }), body),
        outcome: 'declined',
      }),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/checkout\/sessions\/([^/]+)\/settle$/,
    run: (ctx, { id, body }) => {
      const failed = parseControl(settleSchema, body).outcome === 'failed';
      return { session: settle(ctx, id, failed ? NO_FUNDS : null) };
    },
  },
  {
    // The buyer goes back: Stripe keeps the session open, and so does this.
    method: 'POST',
    pattern: /^\/_sandbox\/checkout\/sessions\/([^/]+)\/cancel$/,
    run: (ctx, { id, body }) => {
      parseControl(emptySchema, body);
      const { view } = findSession(ctx, id);
      return { redirect_url: view.cancel_url, session: view };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/checkout\/sessions\/([^/]+)\/expire$/,
    run: (ctx, { id, body }) => {
      parseControl(emptySchema, body);
      return { session: expireSession(ctx, id) };
    },
  },
  ...moneyBackControl,
  ...faultControl,
  ...statusControl,
  ...billingControl,
];

/** `body` is the parsed JSON, `{}` when none was sent. @throws ApiError */
export function runControl(
  ctx: Context,
  instance: Instance,
  request: { method: string; path: string; query: string; body: unknown },
): unknown {
  for (const { method, pattern, run } of routes) {
    const found = method === request.method ? pattern.exec(request.path) : null;
    if (!found) continue;
    const call: ControlCall = {
      id: decodeURIComponent(found[1] ?? ''),
      query: new URLSearchParams(request.query),
      body: request.body,
      instance,
    };
    return ctx.store.transaction(() => run(ctx, call));
  }
  throw unknownUrl(request.method, request.path);
}

function pay(
  ctx: Context,
  id: string,
  given: Omit<z.output<typeof paySchema>, 'quantities'> & {
    quantities?: Readonly<Record<string, number>> | undefined;
  },
) {
  const outcome = OUTCOMES[given.outcome];
  const result = purchase(ctx, id, {
    ...outcome,
    ...(given.card_number === undefined ? {} : { cardNumber: given.card_number }),
    email: given.email ?? emailOf(ctx, id),
    name: given.name ?? 'Sandbox Buyer',
    ...(given.promotion_code === undefined ? {} : { promotionCode: given.promotion_code }),
    ...(given.quantities ? { quantities: given.quantities } : {}),
  });
  return {
    outcome: result.outcome,
    session: result.session,
    redirect_url: result.outcome === 'complete' ? successUrl(result.session) : null,
    ...(result.outcome === 'declined' ? { refusal: result.refusal } : {}),
  };
}

function emailOf(ctx: Context, id: string): string {
  return findSession(ctx, id).view.customer_details?.email ?? 'buyer@example.com';
}

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
  const limit = Number(query.get('limit') ?? DELIVERY_PAGE_MAX);
  if (!Number.isInteger(limit) || limit < 1 || limit > DELIVERY_PAGE_MAX) {
    throw badRequest(`limit must be between 1 and ${DELIVERY_PAGE_MAX}.`, { param: 'limit' });
  }
  const [event, type, status] = ['event', 'type', 'status'].map((name) => query.get(name));
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
