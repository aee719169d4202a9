import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import { paymentMethods } from '../tables.ts';
import type { Refusal } from './charges.ts';
import type { Address } from './customers.ts';
import type { Metadata } from './fields.ts';

export type BillingDetails = {
  address: Address;
  email: string | null;
  name: string | null;
  phone: string | null;
  tax_id: string | null;
};

type CardFacts = {
  brand: string;
  funding: string;
  last4: string;
  exp_month: number;
  exp_year: number;
};
type BankFacts = { last4: string; routing_number: string };

/** How the buyer pays, as typed on the page. */
export type PaidWith =
  | { type: 'card'; card: CardFacts }
  | { type: 'us_bank_account'; us_bank_account: BankFacts };

type Common = {
  id: string;
  object: 'payment_method';
  allow_redisplay: 'limited';
  billing_details: BillingDetails;
  created: number;
  customer: string | null;
  customer_account: null;
  livemode: false;
  metadata: Metadata;
};
export type PaymentMethodView = Common &
  (
    | { type: 'card'; card: ReturnType<typeof cardView> }
    | { type: 'us_bank_account'; us_bank_account: ReturnType<typeof bankView> }
  );

/** What its number decides: how later payments with it end. */
export type MethodHidden = {
  refusal: Refusal | null;
  /** A payment without its holder asks for him. */
  authenticates: boolean;
};

const PAYS: MethodHidden = { refusal: null, authenticates: false };

export function createPaymentMethod(
  ctx: Context,
  paidWith: PaidWith,
  billing: BillingDetails,
  customer: string | null,
  behaviour: MethodHidden = PAYS,
): PaymentMethodView {
  const common: Common = {
    id: ctx.newId('pm_'),
    object: 'payment_method',
    allow_redisplay: 'limited',
    billing_details: billing,
    created: seconds(ctx),
    customer,
    customer_account: null,
    livemode: false,
    metadata: {},
  };
  const view: PaymentMethodView =
    paidWith.type === 'card'
      ? { ...common, type: 'card', card: cardView(paidWith.card) }
      : {
          ...common,
          type: 'us_bank_account',
          us_bank_account: bankView(paidWith.us_bank_account),
        };
  return add(ctx, paymentMethods, view, behaviour).view;
}

function cardView(card: CardFacts) {
  return {
    ...card,
    checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: 'pass' },
    country: 'US',
    display_brand: card.brand,
    fingerprint: `sandbox${card.last4}`,
    generated_from: null,
    networks: { available: [card.brand], preferred: null },
    regulated_status: 'unregulated' as const,
    three_d_secure_usage: { supported: true },
    wallet: null,
  };
}

function bankView(bank: BankFacts) {
  return {
    ...bank,
    account_holder_type: 'individual' as const,
    account_type: 'checking' as const,
    bank_name: 'SANDBOX BANK',
    financial_connections_account: null,
    fingerprint: `sandbox${bank.last4}`,
    networks: { preferred: 'ach', supported: ['ach' as const] },
    status_details: null,
  };
}

/** @throws ApiError `resource_missing` */
export function findPaymentMethod(
  ctx: Context,
  id: string,
  param: string,
  status: 400 | 404,
): PaymentMethodView {
  const found = ctx.store.get(paymentMethods, id);
  if (!found) throw noSuch('payment_method', id, param, status);
  return found.view;
}
