import { API_VERSION, type Context } from './context.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import { coupons, discounts, invoicePayments, paymentIntents, prices, refunds } from './tables.ts';
import { type EventVersion, isBefore } from './versions.ts';

/**
 * One change of Stripe's API, undone: `restore` turns the fields of an `object` into what they were
 * before version `since`. Objects are kept in the newest shape only; older ones are made from it.
 */
interface ShapeChange {
  readonly since: EventVersion;
  readonly object: string;
  readonly restore: (ctx: Context, view: JsonObject) => JsonObject;
}

const BASIL = '2025-03-31.basil';
const CLOVER = '2025-09-30.clover';
const DAHLIA = '2026-03-25.dahlia';

/** Newest first, so that each change finds the shape it was made on. */
export const SHAPE_CHANGES: readonly ShapeChange[] = [
  { since: DAHLIA, object: 'checkout.session', restore: oldUiMode },
  { since: CLOVER, object: 'discount', restore: couponOfDiscount },
  { since: CLOVER, object: 'promotion_code', restore: couponOfPromotionCode },
  { since: BASIL, object: 'checkout.session', restore: shippingOfSession },
  { since: BASIL, object: 'invoice', restore: invoiceBeforeBasil },
  { since: BASIL, object: 'line_item', restore: lineBeforeBasil },
  { since: BASIL, object: 'invoiceitem', restore: lineBeforeBasil },
  { since: BASIL, object: 'subscription', restore: subscriptionBeforeBasil },
  { since: BASIL, object: 'charge', restore: chargeBeforeBasil },
  { since: BASIL, object: 'payment_intent', restore: intentBeforeBasil },
  { since: BASIL, object: 'credit_note', restore: creditNoteBeforeBasil },
  { since: '2022-11-15', object: 'charge', restore: refundsOfCharge },
];

/** Event types that did not exist before a version are not told to older endpoints. */
const TYPES_SINCE: Readonly<Record<string, EventVersion>> = { 'invoice_payment.paid': BASIL };

export function isKnownIn(version: string, type: string): boolean {
  const since = TYPES_SINCE[type];
  return since === undefined || !isBefore(version, since);
}

/** The object, and every object inside it, as an endpoint of that version is told. */
export function renderAs(ctx: Context, view: JsonObject, version: string): JsonObject {
  if (version === API_VERSION) return view;
  const inside = Object.fromEntries(
    Object.entries(view).map(([key, value]) => [key, renderInside(ctx, value, version)]),
  );
  return SHAPE_CHANGES.filter(
    ({ since, object }) => object === view.object && isBefore(version, since),
  ).reduce((shape, { restore }) => restore(ctx, shape), inside);
}

function renderInside(ctx: Context, value: Json, version: string): Json {
  if (Array.isArray(value)) return value.map((item) => renderInside(ctx, item, version));
  return isObject(value) ? renderAs(ctx, value, version) : value;
}

function oldUiMode(_ctx: Context, view: JsonObject): JsonObject {
  const names: Record<string, string> = {
    hosted_page: 'hosted',
    embedded_page: 'embedded',
    elements: 'custom',
  };
  return { ...view, ui_mode: names[String(view.ui_mode)] ?? view.ui_mode ?? null };
}

function shippingOfSession(_ctx: Context, view: JsonObject): JsonObject {
  return { ...view, shipping_details: group(view.collected_information).shipping_details ?? null };
}

/** The whole coupon, where there is only its id now. */
function couponOfDiscount(ctx: Context, view: JsonObject): JsonObject {
  const { source, ...rest } = view;
  return { ...rest, coupon: couponOf(ctx, source) };
}

function couponOfPromotionCode(ctx: Context, view: JsonObject): JsonObject {
  const { promotion, ...rest } = view;
  return { ...rest, coupon: couponOf(ctx, promotion) };
}

function couponOf(ctx: Context, source: Json | undefined): Json {
  const { coupon = null } = group(source);
  const found = typeof coupon === 'string' ? ctx.store.get(coupons, coupon)?.view : undefined;
  return (found as unknown as JsonObject | undefined) ?? coupon;
}

/** The first discount as an object: before basil there was one, and it stood there whole. */
function discountOf(ctx: Context, ids: Json | undefined): JsonObject | null {
  const [first] = Array.isArray(ids) ? ids : [];
  const found = ctx.store.get(discounts, String(first))?.view;
  return found ? couponOfDiscount(ctx, found as unknown as JsonObject) : null;
}

function invoiceBeforeBasil(ctx: Context, view: JsonObject): JsonObject {
  const { parent, total_taxes, payments: _paged, ...rest } = view;
  const details = group(group(parent).subscription_details);
  const taxes = list(total_taxes);
  const intent = intentOfInvoice(ctx, String(view.id));
  const paid = view.status === 'paid';
  return {
    ...rest,
    subscription: details.subscription ?? null,
    subscription_details: isObject(group(parent).subscription_details ?? null)
      ? { metadata: details.metadata ?? {} }
      : null,
    payment_intent: intent,
    charge:
      intent === null ? null : (ctx.store.get(paymentIntents, intent)?.view.latest_charge ?? null),
    paid,
    paid_out_of_band: paid && Number(view.amount_paid_off_stripe ?? 0) > 0,
    quote: group(group(parent).quote_details).quote ?? null,
    tax: taxes.length === 0 ? null : taxes.reduce((sum, tax) => sum + Number(tax.amount), 0),
    discount: discountOf(ctx, view.discounts),
    total_tax_amounts: taxes.map(taxBeforeBasil),
  };
}

/** Both the line of an invoice and a pending item: what was bought, and why it is there. */
function lineBeforeBasil(ctx: Context, view: JsonObject): JsonObject {
  const { parent, pricing, taxes, ...rest } = view;
  const item = group(group(parent).invoice_item_details);
  const subscribed = group(group(parent).subscription_item_details);
  const ofSubscription = group(parent).type === 'subscription_item_details';
  const details = ofSubscription ? subscribed : item;
  const price = ctx.store.get(prices, String(group(group(pricing).price_details).price))?.view;
  const invoiceItem = details.invoice_item ?? null;
  return {
    ...rest,
    price: (price as unknown as JsonObject | undefined) ?? null,
    plan: price?.recurring ? planOf(price as unknown as JsonObject) : null,
    proration: details.proration ?? view.proration ?? false,
    proration_details: details.proration_details ?? { credited_items: null },
    subscription: details.subscription ?? view.subscription ?? null,
    ...(view.object === 'line_item'
      ? {
          // Prorations were items of the invoice, also those of a subscription.
          type: ofSubscription && invoiceItem === null ? 'subscription' : 'invoiceitem',
          tax_amounts: list(taxes).map(taxBeforeBasil),
          tax_rates: [],
          ...(invoiceItem === null ? {} : { invoice_item: invoiceItem }),
          ...(ofSubscription ? { subscription_item: details.subscription_item ?? null } : {}),
        }
      : {}),
  };
}

function subscriptionBeforeBasil(ctx: Context, view: JsonObject): JsonObject {
  const items = list(group(view.items).data);
  const bounds = (field: string) =>
    items.flatMap((item) => (typeof item[field] === 'number' ? [item[field]] : []));
  const [only] = items;
  return {
    ...view,
    items: {
      ...group(view.items),
      data: items.map(({ current_period_start: _s, current_period_end: _e, ...item }) => item),
    },
    current_period_start: Math.min(...bounds('current_period_start')),
    current_period_end: Math.max(...bounds('current_period_end')),
    discount: discountOf(ctx, view.discounts),
    // Only a subscription to one thing had these.
    plan: items.length === 1 ? (only?.plan ?? null) : null,
    quantity: items.length === 1 ? (only?.quantity ?? null) : null,
  };
}

function chargeBeforeBasil(ctx: Context, view: JsonObject): JsonObject {
  return { ...view, invoice: invoiceOfIntent(ctx, view.payment_intent ?? null) };
}

function intentBeforeBasil(ctx: Context, view: JsonObject): JsonObject {
  return { ...view, invoice: invoiceOfIntent(ctx, view.id ?? null) };
}

function creditNoteBeforeBasil(_ctx: Context, view: JsonObject): JsonObject {
  const { refunds: linked, total_taxes, ...rest } = view;
  return {
    ...rest,
    refund: list(linked)[0]?.refund ?? null,
    tax_amounts: list(total_taxes).map(taxBeforeBasil),
  };
}

/** The charge itself carried its refunds, newest first. */
function refundsOfCharge(ctx: Context, view: JsonObject): JsonObject {
  const data = ctx.store
    .lookUp(refunds, 'charge', String(view.id))
    .map((row) => row.view as unknown as JsonObject)
    .reverse();
  const url = `/v1/charges/${String(view.id)}/refunds`;
  return {
    ...view,
    refunds: { object: 'list', data, has_more: false, total_count: data.length, url },
  };
}

function taxBeforeBasil(tax: JsonObject): JsonObject {
  return {
    amount: tax.amount ?? 0,
    inclusive: tax.tax_behavior === 'inclusive',
    tax_rate: group(tax.tax_rate_details).tax_rate ?? null,
    taxability_reason: tax.taxability_reason ?? null,
    taxable_amount: tax.taxable_amount ?? null,
  };
}

/** The plan is the older name of a recurring price. */
function planOf(price: JsonObject): JsonObject {
  const recurring = group(price.recurring);
  return {
    id: price.id ?? null,
    object: 'plan',
    active: price.active ?? null,
    amount: price.unit_amount ?? null,
    amount_decimal: price.unit_amount_decimal ?? null,
    billing_scheme: price.billing_scheme ?? null,
    created: price.created ?? null,
    currency: price.currency ?? null,
    interval: recurring.interval ?? null,
    interval_count: recurring.interval_count ?? null,
    livemode: false,
    metadata: price.metadata ?? {},
    nickname: price.nickname ?? null,
    product: price.product ?? null,
    usage_type: recurring.usage_type ?? null,
  };
}

function intentOfInvoice(ctx: Context, invoice: string): string | null {
  const payments = ctx.store.lookUp(invoicePayments, 'invoice', invoice).map(({ view }) => view);
  // An invoice paid in parts has more than one; the older API knew of the default one only.
  const known = payments.find(({ is_default }) => is_default) ?? payments[0];
  return known?.payment.payment_intent ?? null;
}

function invoiceOfIntent(ctx: Context, intent: Json): string | null {
  const [payment] = ctx.store.lookUp(invoicePayments, 'payment_intent', String(intent));
  return payment?.view.invoice ?? null;
}

function group(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

function list(value: Json | undefined): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
