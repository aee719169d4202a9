import { type Context, seconds } from '../context.ts';
import type { Parsed } from '../params.ts';
import type { Line } from './checkoutLines.ts';
import { PAYMENT_METHOD_TYPES, type sessionCreateParams } from './checkoutParams.ts';
import { sumsOf } from './checkoutTotals.ts';
import type { Address, LiveCustomer } from './customers.ts';
import { applyMetadata, type Metadata } from './fields.ts';

export type NewSession = Parsed<typeof sessionCreateParams>;

type CustomerDetails = {
  address: Address | null;
  business_name: string | null;
  email: string | null;
  individual_name: string | null;
  name: string | null;
  phone: string | null;
  tax_exempt: 'exempt' | 'none' | 'reverse' | null;
  tax_ids: never[] | null;
};

export type SessionView = ReturnType<typeof sessionView>;

/** A new, open session in the shape Stripe answers it. */
export function sessionView(
  ctx: Context,
  id: string,
  given: NewSession,
  lines: readonly Line[],
  customer: LiveCustomer | null,
  expiresAt: number,
  discounts: readonly { coupon: string; promotionCode: string | null }[],
  trialing: boolean,
) {
  const sums = sumsOf(lines, trialing);
  const payment = given.mode === 'payment';
  return {
    id,
    object: 'checkout.session' as const,
    adaptive_pricing: { enabled: given.adaptive_pricing?.enabled ?? false },
    after_expiration: null,
    allow_promotion_codes: given.allow_promotion_codes ?? null,
    allowed_payment_method_types: given.allowed_payment_method_types ?? null,
    amount_subtotal: sums.amount_subtotal,
    amount_total: sums.amount_total,
    automatic_tax: {
      enabled: given.automatic_tax?.enabled ?? false,
      liability: given.automatic_tax?.enabled ? { type: 'self' as const } : null,
      provider: given.automatic_tax?.enabled ? 'stripe' : null,
      status: null as 'complete' | null,
    },
    billing_address_collection: given.billing_address_collection ?? null,
    cancel_url: given.cancel_url ?? null,
    client_reference_id: given.client_reference_id ?? null,
    client_secret: null,
    collected_information: null,
    consent: null,
    consent_collection: null,
    created: seconds(ctx),
    currency: lines[0]?.item.currency ?? null,
    currency_conversion: null,
    custom_fields: [] as never[],
    custom_text: {
      after_submit: given.custom_text?.after_submit ?? null,
      shipping_address: given.custom_text?.shipping_address ?? null,
      submit: given.custom_text?.submit ?? null,
      terms_of_service_acceptance: given.custom_text?.terms_of_service_acceptance ?? null,
    },
    customer: (given.customer ?? null) as string | null,
    customer_account: null,
    customer_creation: payment && !customer ? (given.customer_creation ?? 'if_required') : null,
    customer_details: detailsBefore(given, customer),
    customer_email: given.customer_email ?? null,
    discounts: discounts.map(({ coupon, promotionCode }) => ({
      // One of the two is set: the code stands for its coupon.
      coupon: promotionCode === null ? coupon : null,
      promotion_code: promotionCode,
    })),
    expires_at: expiresAt,
    integration_identifier: null,
    invoice: null as string | null,
    invoice_creation: payment ? invoiceCreation(given) : null,
    livemode: false as const,
    locale: given.locale ?? null,
    managed_payments: null,
    metadata: applyMetadata({}, given.metadata),
    mode: given.mode as 'payment' | 'subscription',
    optional_items: null,
    origin_context: given.origin_context ?? null,
    payment_intent: null as string | null,
    payment_link: null,
    payment_method_collection:
      given.payment_method_collection ?? (payment ? 'if_required' : 'always'),
    payment_method_configuration_details: null,
    payment_method_options: {},
    payment_method_types: offeredMethods(given),
    payment_status: 'unpaid' as 'unpaid' | 'paid' | 'no_payment_required',
    permissions: null,
    phone_number_collection: { enabled: given.phone_number_collection?.enabled ?? false },
    recovered_from: null,
    saved_payment_method_options: null,
    setup_intent: null,
    shipping_address_collection: null,
    shipping_cost: null,
    shipping_options: [] as never[],
    status: 'open' as 'open' | 'complete' | 'expired',
    submit_type: given.submit_type ?? null,
    subscription: null as string | null,
    success_url: given.success_url ?? null,
    tax_id_collection: {
      enabled: given.tax_id_collection?.enabled ?? false,
      required: given.tax_id_collection?.required ?? ('never' as const),
    },
    total_details: sums.total_details,
    ui_mode: 'hosted_page' as const,
    url: checkoutUrl(ctx, id) as string | null,
    wallet_options: null,
  };
}

export function checkoutUrl(ctx: Context, id: string): string {
  return `${ctx.origin()}/c/pay/${id}`;
}

/** Known before the buyer has typed anything. */
function detailsBefore(given: NewSession, customer: LiveCustomer | null): CustomerDetails | null {
  const known = given.customer_email ?? customer?.email ?? null;
  if (known === null) return null;
  return {
    address: null,
    business_name: null,
    email: known,
    individual_name: null,
    name: null,
    phone: null,
    tax_exempt: 'none',
    tax_ids: null,
  };
}

function invoiceCreation(given: NewSession) {
  const data = given.invoice_creation?.invoice_data;
  return {
    enabled: given.invoice_creation?.enabled ?? false,
    invoice_data: {
      account_tax_ids: null,
      custom_fields: null,
      description: data?.description ?? null,
      footer: data?.footer ?? null,
      issuer: data?.issuer ? { type: 'self' as const } : null,
      metadata: applyMetadata({}, data?.metadata) as Metadata,
      rendering_options: null,
    },
  };
}

function offeredMethods(given: NewSession): string[] {
  const excluded = new Set(given.excluded_payment_method_types ?? []);
  // Subscriptions are paid by card: a first payment that settles days later is not simulated.
  const possible = given.mode === 'subscription' ? ['card'] : [...PAYMENT_METHOD_TYPES];
  return possible.filter(
    (type) =>
      !excluded.has(type) &&
      (given.allowed_payment_method_types?.some((allowed) => allowed === type) ?? true),
  );
}
