import { afterCharge } from '../cards.ts';
import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import {
  choice,
  clearable,
  email,
  expand,
  metadata,
  object,
  paging,
  range,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { charges, paymentIntents, refunds } from '../tables.ts';
import { schedule } from '../tasks.ts';
import { expandBalanceTransaction, moveMoney } from './balanceTransactions.ts';
import { expandCustomer } from './customers.ts';
import { applyMetadata, present } from './fields.ts';
import type { PaymentIntentView } from './paymentIntents.ts';
import type { PaymentMethodView } from './paymentMethods.ts';

export type ChargeView = ReturnType<typeof chargeView>;

export interface Refusal {
  readonly code: string;
  readonly decline_code: string | null;
  readonly message: string;
}

function chargeView(
  ctx: Context,
  intent: PaymentIntentView,
  method: PaymentMethodView,
  state: { status: 'succeeded' | 'pending' } | { status: 'failed'; refusal: Refusal },
) {
  const id = ctx.newId(method.type === 'card' ? 'ch_' : 'py_');
  const succeeded = state.status === 'succeeded';
  const failed = state.status === 'failed' ? state.refusal : null;
  return {
    id,
    object: 'charge' as const,
    amount: intent.amount,
    amount_captured: failed ? 0 : intent.amount,
    amount_refunded: 0,
    application: null,
    application_fee: null,
    application_fee_amount: null,
    balance_transaction: null as string | null,
    billing_details: method.billing_details,
    calculated_statement_descriptor: 'SANDBOX',
    captured: !failed,
    created: seconds(ctx),
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    disputed: false,
    failure_balance_transaction: null,
    failure_code: failed?.code ?? null,
    failure_message: failed?.message ?? null,
    fraud_details: {} as { user_report?: 'fraudulent' | 'safe' },
    livemode: false as const,
    metadata: intent.metadata,
    on_behalf_of: null,
    outcome: outcomeOf(state.status, failed) as ReturnType<typeof outcomeOf> | null,
    paid: succeeded,
    payment_intent: intent.id,
    payment_method: method.id,
    payment_method_details: methodDetails(method, intent.amount),
    radar_options: {},
    receipt_email: intent.receipt_email,
    receipt_number: null,
    receipt_url: failed ? null : `${ctx.origin()}/r/${id}`,
    refunded: false,
    review: null,
    shipping: null,
    source: null,
    source_transfer: null,
    statement_descriptor: intent.statement_descriptor,
    statement_descriptor_suffix: intent.statement_descriptor_suffix,
    status: state.status as 'succeeded' | 'pending' | 'failed',
    transfer_data: null,
    transfer_group: intent.transfer_group,
  };
}

export function createCharge(
  ctx: Context,
  intent: PaymentIntentView,
  method: PaymentMethodView,
  state: Parameters<typeof chargeView>[3],
): ChargeView {
  const { view } = add(ctx, charges, chargeView(ctx, intent, method, state), {});
  return state.status === 'succeeded' ? receive(ctx, view, {}) : view;
}

/** The bank's answer to a pending charge: the money is here. */
export function settleCharge(ctx: Context, id: string): ChargeView {
  return receive(ctx, findCharge(ctx, id, 'charge', 400), {
    status: 'succeeded',
    paid: true,
    outcome: outcomeOf('succeeded', null),
  });
}

function receive(ctx: Context, charge: ChargeView, change: Partial<ChargeView>): ChargeView {
  const kind = charge.id.startsWith('py_') ? 'payment' : 'charge';
  const { id: balance_transaction } = moveMoney(ctx, kind, {
    amount: charge.amount_captured,
    currency: charge.currency,
    source: charge.id,
    description: charge.description,
  });
  const later = afterCharge(charge.payment_method_details);
  if (later?.dispute) schedule(ctx, 'open_dispute', charge.id, ctx.now() + ctx.settleDelayMs);
  return ctx.store.patch(charges, charge.id, { ...change, balance_transaction }).view;
}

/** @throws ApiError `resource_missing` */
export function findCharge(ctx: Context, id: string, param: string, status: 400 | 404): ChargeView {
  const found = ctx.store.get(charges, id);
  if (!found) throw noSuch('charge', id, param, status);
  return found.view;
}

export function outcomeOf(status: 'succeeded' | 'pending' | 'failed', refusal: Refusal | null) {
  return {
    advice_code: refusal ? ('try_again_later' as const) : null,
    network_advice_code: null,
    network_decline_code: null,
    network_status: refusal ? 'declined_by_network' : 'approved_by_network',
    reason: refusal ? (refusal.decline_code ?? refusal.code) : null,
    risk_level: 'normal',
    risk_score: 12,
    seller_message:
      status === 'failed' ? 'The bank did not complete the charge.' : 'Payment complete.',
    type: refusal ? 'issuer_declined' : 'authorized',
  };
}

function methodDetails(method: PaymentMethodView, amount: number) {
  if (method.type === 'us_bank_account') {
    const {
      networks: _n,
      status_details: _s,
      financial_connections_account: _f,
      ...bank
    } = method.us_bank_account;
    return { type: method.type, us_bank_account: { ...bank, payment_reference: null } };
  }
  const { card } = method;
  return {
    type: method.type,
    card: {
      amount_authorized: amount,
      authorization_code: null,
      brand: card.brand,
      checks: card.checks,
      country: card.country,
      electronic_commerce_indicator: null,
      exp_month: card.exp_month,
      exp_year: card.exp_year,
      extended_authorization: { status: 'disabled' as const },
      fingerprint: card.fingerprint,
      funding: card.funding,
      incremental_authorization: { status: 'unavailable' as const },
      installments: null,
      last4: card.last4,
      mandate: null,
      multicapture: { status: 'unavailable' as const },
      network: card.brand,
      network_token: { used: false },
      network_transaction_id: null,
      overcapture: { maximum_amount_capturable: amount, status: 'unavailable' as const },
      regulated_status: card.regulated_status,
      three_d_secure: null,
      transaction_link_id: null,
      wallet: null,
    },
  };
}

export const chargeExpandable: Expandable = {
  balance_transaction: expandBalanceTransaction('balance_transaction'),
  customer: expandCustomer,
  payment_intent: (ctx, view) => ctx.store.get(paymentIntents, String(view.payment_intent))?.view,
  refunds: (ctx, view) =>
    listRows(
      ctx,
      refunds,
      `/v1/charges/${String(view.id)}/refunds`,
      {},
      (row) => row.view.charge === view.id,
    ),
};

const listParams = {
  ...paging,
  created: range,
  customer: text(),
  payment_intent: text(),
  transfer_group: text(),
};

const updateParams = {
  customer: refused(),
  description: clearable(text()),
  expand,
  fraud_details: object({ user_report: required(choice('fraudulent', 'safe')) }),
  metadata,
  receipt_email: clearable(email),
  shipping: refused(),
  transfer_group: text(),
};

export const chargeRoutes: Route[] = [
  route('GET', '/v1/charges', listParams, (ctx, filter) =>
    listRows(
      ctx,
      charges,
      '/v1/charges',
      filter,
      ({ view }) =>
        matchesFilter(filter.customer, view.customer) &&
        matchesFilter(filter.payment_intent, view.payment_intent) &&
        matchesFilter(filter.transfer_group, view.transfer_group) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/charges/:id', { expand }, (ctx, _params, ids) =>
    findCharge(ctx, idOf(ids), 'id', 404),
  ),
  route('POST', '/v1/charges/:id', updateParams, (ctx, given, ids) => {
    const before = findCharge(ctx, idOf(ids), 'id', 404);
    const { description, fraud_details, receipt_email, transfer_group } = given;
    const { view } = ctx.store.patch(charges, before.id, {
      ...present({ description, fraud_details, receipt_email, transfer_group }),
      metadata: applyMetadata(before.metadata, given.metadata),
    });
    const previous = changedAttributes(before, view);
    if (previous) emit(ctx, 'charge.updated', view, previous);
    return view;
  }),
];
