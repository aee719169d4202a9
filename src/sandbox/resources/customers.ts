import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
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
    default_payment_method: string | null;
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
export type DeletedCustomer = { id: string; object: 'customer'; deleted: true };
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
    default_payment_method: text(),
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

export const createParams = {
  ...details,
  payment_method: text(),
  tax_id_data: refused(),
  test_clock: refused(),
};
export const updateParams = { ...details, default_source: refused() };
export const listParams = { ...paging, created: range, email: text(512), test_clock: refused() };

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
  const view = changedCustomer(blank, given);
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

/** The number of a finalised invoice. Not told as customer.updated: nobody changed the customer. */
export function takeInvoiceNumber(ctx: Context, id: string): string {
  const customer = findCustomer(ctx, id, 'customer', 400);
  const sequence = customer.next_invoice_sequence;
  const view = { ...customer, next_invoice_sequence: sequence + 1 };
  ctx.store.put(customers, { id, view, hidden: {} });
  return `${customer.invoice_prefix}-${String(sequence).padStart(4, '0')}`;
}

/** For `expand`: a deleted customer shows as deleted. */
export const expandCustomer = (ctx: Context, view: { customer?: unknown }) =>
  typeof view.customer === 'string' ? ctx.store.get(customers, view.customer)?.view : undefined;

/** Tells it with the old values, unless nothing changed. */
export function updateCustomer(ctx: Context, id: string, change: Partial<LiveCustomer>) {
  const before = findCustomer(ctx, id, 'id', 404);
  const after = { ...before, ...change };
  const previous = changedAttributes(before, after);
  if (!previous) return before;
  ctx.store.put(customers, { id, view: after, hidden: {} });
  emit(ctx, 'customer.updated', after, previous);
  return after;
}

export function changedCustomer(before: LiveCustomer, given: Given): LiveCustomer {
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
      default_payment_method:
        invoice_settings?.default_payment_method ?? before.invoice_settings.default_payment_method,
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
