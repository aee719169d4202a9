import { z } from 'zod';
import { seedCatalogue } from './catalogue.ts';
import { purchase, settle, successUrl } from './checkout.ts';
import { API_VERSION, type Context } from './context.ts';
import { billingControl } from './controlBilling.ts';
import { parseControl } from './controlBody.ts';
import type { ControlCall, ControlRoute, Instance } from './controlRoute.ts';
import { badRequest, unknownUrl } from './errors.ts';
import { faultControl } from './faultControl.ts';
import { moneyBackControl } from './moneyBackControl.ts';
import { deletePrice } from './resources/catalogueDeletion.ts';
import { expireSession, findSession } from './resources/checkoutSessions.ts';
import { decode } from './route.ts';
import { openShopSession } from './shopSession.ts';
import { statusControl } from './statusControl.ts';
import { webhookControl } from './webhookControl.ts';

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

/** What only a payment can do something with. */
const OF_PAYMENT = ['outcome', 'card_number', 'name', 'promotion_code'] as const;
const buySchema = paySchema.omit({ quantities: true }).extend({
  outcome: paySchema.shape.outcome.unwrap().optional(),
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
    method: 'PUT',
    pattern: /^\/_sandbox\/catalogue$/,
    run: (ctx, { body }) => {
      const catalogue = parseControl(catalogueSchema, body);
      seedCatalogue(ctx, catalogue);
      return { products: catalogue.products.length, prices: catalogue.prices.length };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/prices\/([^/]+)\/delete$/,
    run: (ctx, { id, body }) => {
      parseControl(emptySchema, body);
      return deletePrice(ctx, id);
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/buy$/,
    run: (ctx, { body }) => {
      const { pay: paid, outcome = 'succeeded', ...given } = parseControl(buySchema, body);
      if (paid) return pay(ctx, openShopSession(ctx, given).id, { ...given, outcome });
      const ignored = OF_PAYMENT.find((name) => Object.hasOwn(body as object, name));
      if (ignored !== undefined) {
        throw badRequest(`Nothing is paid yet: leave ${ignored} out, or pay at once.`, {
          param: ignored,
        });
      }
      return {
        outcome: 'open',
        session: openShopSession(ctx, { ...given, customer_email: given.email }),
      };
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
  ...webhookControl,
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
      id: decode(found[1] ?? ''),
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
