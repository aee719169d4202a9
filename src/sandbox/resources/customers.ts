import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import {
  choice,
  clearable,
  email,
  expand,
  flag,
  integer,
  list,
  metadata,
  object,
  type Parsed,
  paging,
  range,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { customers } from '../tables.ts';
import { applyMetadata, type Metadata, present } from './fields.ts';

export type Address = {
  city: string | null;
  country: string | null;
  line1: string | null;
  line2: string | null;
  postal_code: string | null;
  state: string | null;
};

export type LiveCustomer = {
  id: string;
  object: 'customer';
  address: Address | null;
  balance: number;
  created: number;
  currency: string | null;
  customer_account: null;
  default_source: null;
  delinquent: boolean;
  description: string | null;
  email: string | null;
  invoice_prefix: string;
  invoice_settings: {
    custom_fields: null;
    default_payment_method: null;
    footer: string | null;
    rendering_options: null;
  };
  livemode: false;
  metadata: Metadata;
  name: string | null;
  next_invoice_sequence: number;
  phone: string | null;
  preferred_locales: string[];
  shipping: { address: Address; name: string; phone: string | null } | null;
  tax_exempt: 'exempt' | 'none' | 'reverse';
  test_clock: null;
  business_name?: string;
  individual_name?: string;
};
type DeletedCustomer = { id: string; object: 'customer'; deleted: true };
export type CustomerView = LiveCustomer | DeletedCustomer;

const addressParam = object({
  city: text(),
  country: text(2),
  line1: text(),
  line2: text(),
  postal_code: text(),
  state: text(),
});
const taxExempt = choice('exempt', 'none', 'reverse');

const details = {
  address: clearable(addressParam),
  balance: integer(),
  business_name: clearable(text(150)),
  cash_balance: refused(),
  description: clearable(text()),
  email: clearable(email),
  expand,
  individual_name: clearable(text(150)),
  invoice_prefix: text(12),
  invoice_settings: object({
    custom_fields: refused(),
    default_payment_method: refused(),
    footer: text(),
    rendering_options: refused(),
  }),
  metadata,
  name: clearable(text(256)),
  next_invoice_sequence: integer({ min: 1 }),
  phone: clearable(text(20)),
  preferred_locales: list(text(20)),
  shipping: clearable(
    object({ address: required(addressParam), name: required(text()), phone: text() }),
  ),
  source: refused(),
  tax: refused(),
  tax_exempt: clearable(taxExempt),
  validate: flag,
};

const createParams = {
  ...details,
  payment_method: refused(),
  tax_id_data: refused(),
  test_clock: refused(),
};
const updateParams = { ...details, default_source: refused() };
const listParams = { ...paging, created: range, email: text(512), test_clock: refused() };

type Given = Partial<Omit<Parsed<typeof createParams>, 'expand'>>;

export function createCustomer(ctx: Context, given: Given): LiveCustomer {
  const blank: LiveCustomer = {
    id: ctx.newId('cus_', 14),
    object: 'customer',
    address: null,
    balance: 0,
    created: seconds(ctx),
    currency: null,
    customer_account: null,
    default_source: null,
    delinquent: false,
    description: null,
    email: null,
    invoice_prefix: ctx.newId('', 8).toUpperCase(),
    invoice_settings: {
      custom_fields: null,
      default_payment_method: null,
      footer: null,
      rendering_options: null,
    },
    livemode: false,
    metadata: {},
    name: null,
    next_invoice_sequence: 1,
    phone: null,
    preferred_locales: [],
    shipping: null,
    tax_exempt: 'none',
    test_clock: null,
  };
  const view = changed(blank, given);
  add(ctx, customers, view, {});
  emit(ctx, 'customer.created', view);
  return view;
}

/** A customer that exists and was not deleted. */
export function findCustomer(
  ctx: Context,
  id: string,
  param: string,
  status: 400 | 404,
): LiveCustomer {
  const found = ctx.store.get(customers, id)?.view;
  if (!found || 'deleted' in found) throw noSuch('customer', id, param, status);
  return found;
}

/** For `expand`: a deleted customer shows as deleted. */
export const expandCustomer = (ctx: Context, view: { customer?: unknown }) =>
  typeof view.customer === 'string' ? ctx.store.get(customers, view.customer)?.view : undefined;

function updateCustomer(ctx: Context, id: string, change: Partial<LiveCustomer>) {
  const before = findCustomer(ctx, id, 'id', 404);
  const after = { ...before, ...change };
  const previous = changedAttributes(before, after);
  if (!previous) return before;
  ctx.store.put(customers, { id, view: after, hidden: {} });
  emit(ctx, 'customer.updated', after, previous);
  return after;
}

function changed(before: LiveCustomer, given: Given): LiveCustomer {
  const { address, shipping, invoice_settings, business_name, individual_name } = given;
  const { balance, description, invoice_prefix, name, next_invoice_sequence, phone } = given;
  return {
    ...before,
    ...present({ balance, description, invoice_prefix, name, next_invoice_sequence, phone }),
    ...present({ email: given.email, preferred_locales: given.preferred_locales }),
    ...(given.tax_exempt === undefined ? {} : { tax_exempt: given.tax_exempt ?? 'none' }),
    ...(address === undefined ? {} : { address: address && fullAddress(address) }),
    ...(shipping === undefined
      ? {}
      : {
          shipping: shipping && {
            address: fullAddress(shipping.address),
            name: shipping.name,
            phone: shipping.phone ?? null,
          },
        }),
    ...(business_name ? { business_name } : {}),
    ...(individual_name ? { individual_name } : {}),
    invoice_settings: {
      ...before.invoice_settings,
      footer: invoice_settings?.footer ?? before.invoice_settings.footer,
    },
    metadata: applyMetadata(before.metadata, given.metadata),
  };
}

function fullAddress(given: Partial<Record<keyof Address, string | undefined>>): Address {
  const { city, country, line1, line2, postal_code, state } = given;
  return {
    city: city ?? null,
    country: country ?? null,
    line1: line1 ?? null,
    line2: line2 ?? null,
    postal_code: postal_code ?? null,
    state: state ?? null,
  };
}

export const customerRoutes: Route[] = [
  route('POST', '/v1/customers', createParams, (ctx, given) => createCustomer(ctx, given)),
  route('GET', '/v1/customers', listParams, (ctx, filter) =>
    listRows(
      ctx,
      customers,
      '/v1/customers',
      filter,
      ({ view }) =>
        !('deleted' in view) &&
        matchesFilter(filter.email, view.email) &&
        inRange(view.created, filter.created),
    ),
  ),
  // A deleted customer can still be read, and says so.
  route('GET', '/v1/customers/:id', { expand }, (ctx, _params, ids) => {
    const found = ctx.store.get(customers, idOf(ids));
    if (!found) throw noSuch('customer', idOf(ids), 'id', 404);
    return found.view;
  }),
  route('POST', '/v1/customers/:id', updateParams, (ctx, given, ids) => {
    const before = findCustomer(ctx, idOf(ids), 'id', 404);
    return updateCustomer(ctx, before.id, changed(before, given));
  }),
  route('DELETE', '/v1/customers/:id', {}, (ctx, _params, ids) => {
    const before = findCustomer(ctx, idOf(ids), 'id', 404);
    const gone: DeletedCustomer = { id: before.id, object: 'customer', deleted: true };
    ctx.store.put(customers, { id: before.id, view: gone, hidden: {} });
    emit(ctx, 'customer.deleted', before);
    return gone;
  }),
];
