import { isCardNumber, testCard, tokenCard } from '../cards.ts';
import { type Context, seconds } from '../context.ts';
import { badRequest, cardError } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { listRows, matchesFilter } from '../listing.ts';
import {
  choice,
  clearable,
  email,
  expand,
  integer,
  metadata,
  object,
  only,
  type Parsed,
  paging,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { paymentMethods } from '../tables.ts';
import { expandCustomer, findCustomer, updateCustomer } from './customers.ts';
import { applyMetadata } from './fields.ts';
import {
  type BillingDetails,
  createPaymentMethod,
  findPaymentMethod,
  type PaymentMethodView,
} from './paymentMethods.ts';

const NO_ADDRESS = {
  city: null,
  country: null,
  line1: null,
  line2: null,
  postal_code: null,
  state: null,
};
const NOBODY: BillingDetails = {
  address: NO_ADDRESS,
  email: null,
  name: null,
  phone: null,
  tax_id: null,
};
/** Cards made without a date expire then: years from now. */
const CARD_YEARS = 4;

/** A card of Stripe's test numbers, as its holder types it or a token stands for it. */
export function createCard(
  ctx: Context,
  number: string,
  customer: string | null,
  given: { expMonth?: number; expYear?: number; billing?: BillingDetails } = {},
): PaymentMethodView {
  if (!isCardNumber(number)) {
    throw badRequest('Your card number is incorrect.', {
      param: 'card[number]',
      code: 'incorrect_number',
    });
  }
  const { brand, funding, refusal, authenticates } = testCard(number);
  return createPaymentMethod(
    ctx,
    {
      type: 'card',
      card: {
        brand,
        funding,
        last4: number.slice(-4),
        exp_month: given.expMonth ?? 12,
        exp_year: given.expYear ?? new Date(seconds(ctx) * 1_000).getUTCFullYear() + CARD_YEARS,
      },
    },
    given.billing ?? NOBODY,
    customer,
    { refusal, authenticates: authenticates ?? false },
  );
}

/**
 * Saves a payment method with a customer; `pm_card_visa` and its like become a new one each time.
 * @throws ApiError 402 for a card that refuses even that, 400 when it is another customer's.
 */
export function attachMethod(ctx: Context, id: string, customer: string): PaymentMethodView {
  const owner = findCustomer(ctx, customer, 'customer', 400);
  const number = tokenCard(id);
  if (number !== null) refuseCheck(number);
  const method =
    number === null
      ? findPaymentMethod(ctx, id, 'payment_method', 400)
      : createCard(ctx, number, null);
  if (method.customer === owner.id) return method;
  if (method.customer !== null) {
    throw badRequest('The payment method you provided has already been attached to a customer.', {
      param: 'payment_method',
      code: 'payment_method_unexpected_state',
    });
  }
  const { view } = ctx.store.patch(paymentMethods, method.id, { customer: owner.id });
  emit(ctx, 'payment_method.attached', view);
  return view;
}

function refuseCheck(number: string): void {
  const { refusal, attaches } = testCard(number);
  if (refusal && !attaches) throw cardError(refusal, false);
}

function detachMethod(ctx: Context, id: string): PaymentMethodView {
  const before = findPaymentMethod(ctx, id, 'payment_method', 404);
  if (before.customer === null) {
    throw badRequest('The payment method you provided is not attached to a customer.', {
      param: 'payment_method',
    });
  }
  const owner = findCustomer(ctx, before.customer, 'customer', 400);
  if (owner.invoice_settings.default_payment_method === id) {
    updateCustomer(ctx, owner.id, {
      invoice_settings: { ...owner.invoice_settings, default_payment_method: null },
    });
  }
  const { view } = ctx.store.patch(paymentMethods, id, { customer: null });
  const previous = changedAttributes(before, view);
  emit(ctx, 'payment_method.detached', view, previous ?? {});
  return view;
}

const addressParam = object({
  city: text(),
  country: text(2),
  line1: text(),
  line2: text(),
  postal_code: text(),
  state: text(),
});
const createParams = {
  billing_details: object({
    address: clearable(addressParam),
    email: clearable(email),
    name: clearable(text()),
    phone: clearable(text()),
  }),
  card: object({
    cvc: text(4),
    exp_month: integer({ min: 1, max: 12 }),
    exp_year: integer({ min: 2000, max: 2100 }),
    number: text(19),
    token: text(),
  }),
  expand,
  metadata,
  type: required(only('card', 'bank accounts are typed on the checkout page')),
};

function createMethod(ctx: Context, given: Parsed<typeof createParams>): PaymentMethodView {
  const number = given.card?.number ?? tokenCard(given.card?.token ?? '');
  if (!number) {
    throw badRequest('Pass card[number], or card[token] with one of Stripe’s test tokens.', {
      param: 'card',
      code: 'parameter_missing',
    });
  }
  const details = given.billing_details;
  const address = { ...NO_ADDRESS, ...details?.address };
  const method = createCard(ctx, number, null, {
    ...(given.card?.exp_month === undefined ? {} : { expMonth: given.card.exp_month }),
    ...(given.card?.exp_year === undefined ? {} : { expYear: given.card.exp_year }),
    billing: {
      address: {
        city: address.city ?? null,
        country: address.country ?? null,
        line1: address.line1 ?? null,
        line2: address.line2 ?? null,
        postal_code: address.postal_code ?? null,
        state: address.state ?? null,
      },
      email: details?.email ?? null,
      name: details?.name ?? null,
      phone: details?.phone ?? null,
      tax_id: null,
    },
  });
  return ctx.store.patch(paymentMethods, method.id, {
    metadata: applyMetadata({}, given.metadata),
  }).view;
}

export const paymentMethodExpandable: Expandable = { customer: expandCustomer };

const listParams = {
  ...paging,
  allow_redisplay: refused(),
  customer: text(),
  customer_account: refused(),
  type: choice('card', 'us_bank_account'),
};

function listMethods(
  ctx: Context,
  path: string,
  customer: string | undefined,
  filter: Parsed<typeof listParams>,
) {
  return listRows(
    ctx,
    paymentMethods,
    path,
    filter,
    ({ view }) =>
      view.customer !== null &&
      matchesFilter(customer, view.customer) &&
      matchesFilter<string>(filter.type, view.type),
  );
}

export const paymentMethodRoutes: Route[] = [
  route('POST', '/v1/payment_methods', createParams, createMethod),
  route('GET', '/v1/payment_methods', listParams, (ctx, filter) =>
    listMethods(ctx, '/v1/payment_methods', filter.customer, filter),
  ),
  route('GET', '/v1/customers/:id/payment_methods', listParams, (ctx, filter, ids) => {
    const { id } = findCustomer(ctx, idOf(ids), 'customer', 404);
    return listMethods(ctx, `/v1/customers/${id}/payment_methods`, id, filter);
  }),
  route('GET', '/v1/payment_methods/:id', { expand }, (ctx, _params, ids) =>
    findPaymentMethod(ctx, idOf(ids), 'id', 404),
  ),
  route(
    'POST',
    '/v1/payment_methods/:id/attach',
    { customer: required(text()), customer_account: refused(), expand },
    (ctx, given, ids) => attachMethod(ctx, idOf(ids), given.customer),
  ),
  route('POST', '/v1/payment_methods/:id/detach', { expand }, (ctx, _params, ids) =>
    detachMethod(ctx, idOf(ids)),
  ),
];
