import { afterCharge } from '../cards.ts';
import { add, type Context } from '../context.ts';
import { ApiError, badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { formatAmount } from '../money.ts';
import {
  choice,
  email,
  expand,
  integer,
  metadata,
  type Parsed,
  paging,
  range,
  refused,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { charges, paymentIntents, paymentMethods, refunds } from '../tables.ts';
import { schedule, type TaskHandlers, unschedule } from '../tasks.ts';
import { expandBalanceTransaction, moveMoney } from './balanceTransactions.ts';
import { type ChargeView, findCharge } from './charges.ts';
import { expandCustomer } from './customers.ts';
import { closeInquiries, refundableDespiteDisputes } from './disputes.ts';
import { applyMetadata, type Metadata } from './fields.ts';
import { findPaymentIntent } from './paymentIntents.ts';
import {
  type FailureReason,
  type RefundCourse,
  type RefundReason,
  type RefundView,
  refundView,
  withReference,
} from './refundView.ts';

interface NewRefund {
  /** Default: all that is left. */
  readonly amount?: number | undefined;
  readonly reason?: RefundReason | undefined;
  readonly metadata?: Metadata | null | undefined;
  readonly instructions_email?: string | undefined;
  /** Default: what the card or the bank does. */
  readonly course?: RefundCourse | undefined;
}

/**
 * Sends money back. The charge's `amount_refunded` counts a refund from its creation until it fails
 * or is canceled.
 * @throws ApiError when the charge cannot be refunded, or not that much.
 */
export function createRefund(ctx: Context, charge: ChargeView, given: NewRefund): RefundView {
  checkRefundable(ctx, charge);
  const left = charge.amount_captured - charge.amount_refunded;
  const amount = given.amount ?? left;
  if (amount > left) {
    const [wanted, rest] = [amount, left].map((sum) => formatAmount(sum, charge.currency));
    throw badRequest(
      `Refund amount (${wanted}) is greater than unrefunded amount on charge (${rest})`,
      { param: 'amount' },
    );
  }
  const course =
    given.course ??
    (charge.payment_method_details.type === 'card'
      ? (afterCharge(charge.payment_method_details)?.refund ?? 'succeeded')
      : 'pending');
  const draft = refundView(ctx, charge, {
    amount,
    course,
    reason: given.reason ?? null,
    metadata: applyMetadata({}, given.metadata),
    instructions_email: given.instructions_email ?? null,
  });
  const money = moveMoney(ctx, draft.id.startsWith('pyr_') ? 'payment_refund' : 'refund', {
    amount: -amount,
    currency: charge.currency,
    source: draft.id,
    description: charge.description && `REFUND FOR CHARGE (${charge.description})`,
  });
  const { view } = add(
    ctx,
    refunds,
    { ...draft, balance_transaction: money.id },
    {
      ends: course === 'requires_action' ? null : course === 'fails_later' ? 'failed' : 'succeeded',
    },
  );
  if (course !== 'requires_action') {
    schedule(ctx, 'settle_refund', view.id, ctx.now() + ctx.settleDelayMs);
  }
  emit(ctx, 'refund.created', view);
  const after = changeRefunded(ctx, charge.id, amount);
  emit(ctx, 'charge.refunded', after, changedAttributes(charge, after) ?? {});
  if (after.refunded) closeInquiries(ctx, charge.id);
  return view;
}

function checkRefundable(ctx: Context, charge: ChargeView): void {
  if (charge.status === 'failed') {
    throw badRequest(`Charge ${charge.id} failed: there is nothing to refund.`, {
      param: 'charge',
      code: 'charge_not_refundable',
    });
  }
  if (charge.status === 'pending') {
    throw badRequest(`Charge ${charge.id} is still pending and cannot be refunded yet.`, {
      param: 'charge',
      code: 'charge_not_refundable',
    });
  }
  if (!refundableDespiteDisputes(ctx, charge.id)) {
    throw badRequest(`Charge ${charge.id} has been charged back; cannot issue a refund.`, {
      code: 'charge_disputed',
    });
  }
  if (charge.refunded) {
    throw badRequest(`Charge ${charge.id} has already been refunded.`, {
      code: 'charge_already_refunded',
    });
  }
}

/** The charge knows the sum only: at Stripe, too, its refunds are a list of their own. */
function changeRefunded(ctx: Context, id: string, by: number): ChargeView {
  const { amount_refunded: before, amount_captured } = findCharge(ctx, id, 'charge', 404);
  const amount_refunded = before + by;
  return ctx.store.patch(charges, id, {
    amount_refunded,
    refunded: amount_refunded === amount_captured,
  }).view;
}

/** The bank has worked on it. @throws ApiError when the refund cannot go there any more. */
export function endRefund(
  ctx: Context,
  id: string,
  end: { status: 'succeeded' } | { status: 'failed' | 'canceled'; reason: FailureReason },
): RefundView {
  const before = findRefund(ctx, id).view;
  const over = before.status === 'failed' || before.status === 'canceled';
  if (over || (before.status === 'succeeded' && end.status === 'canceled')) {
    throw badRequest(`Refund ${id} is ${before.status} and cannot become ${end.status}.`, {
      code: 'refund_unexpected_state',
    });
  }
  unschedule(ctx, 'settle_refund', id);
  const { next_action: _asked, pending_reason: _waited, ...kept } = before;
  const ended: RefundView =
    end.status === 'succeeded'
      ? { ...kept, status: end.status, destination_details: withReference(ctx, before) }
      : {
          ...kept,
          status: end.status,
          failure_reason: end.reason,
          failure_balance_transaction: moveMoney(ctx, 'refund_failure', {
            amount: before.amount,
            currency: before.currency,
            source: id,
          }).id,
        };
  if (end.status !== 'succeeded') changeRefunded(ctx, before.charge, -before.amount);
  ctx.store.put(refunds, { id, view: ended, hidden: { ends: null } });
  tell(ctx, before, ended);
  if (end.status === 'failed') emit(ctx, 'refund.failed', ended);
  return ended;
}

/** Both names of one fact, as Stripe sends them. */
function tell(ctx: Context, before: RefundView, after: RefundView): void {
  const previous = changedAttributes(before, after);
  if (!previous) return;
  emit(ctx, 'refund.updated', after, previous);
  emit(ctx, 'charge.refund.updated', after, previous);
}

export const refundTasks = {
  settle_refund: (ctx, id) => {
    const failed = findRefund(ctx, id).hidden.ends === 'failed';
    endRefund(
      ctx,
      id,
      failed ? { status: 'failed', reason: 'expired_or_canceled_card' } : { status: 'succeeded' },
    );
  },
} satisfies Partial<TaskHandlers>;

export function findRefund(ctx: Context, id: string, status: 400 | 404 = 404) {
  const found = ctx.store.get(refunds, id);
  if (!found) throw noSuch('refund', id, status === 404 ? 'id' : 'refund', status);
  return found;
}

const createParams = {
  amount: integer({ min: 1 }),
  charge: text(),
  currency: refused('refunds of a customer balance'),
  customer: refused('refunds of a customer balance'),
  expand,
  instructions_email: email,
  metadata,
  origin: refused('refunds of a customer balance'),
  payment_intent: text(),
  reason: choice('duplicate', 'fraudulent', 'requested_by_customer'),
  refund_application_fee: refused('Connect'),
  reverse_transfer: refused('Connect'),
};

function chargeToRefund(ctx: Context, given: Parsed<typeof createParams>): ChargeView {
  const { charge, payment_intent } = given;
  if ((charge === undefined) === (payment_intent === undefined)) {
    throw badRequest(
      charge === undefined
        ? 'One of the following params should be provided for this request: payment_intent or charge.'
        : 'You may only specify one of these parameters: charge, payment_intent.',
      { param: 'charge', ...(charge === undefined ? { code: 'parameter_missing' } : {}) },
    );
  }
  if (charge !== undefined) return findCharge(ctx, charge, 'charge', 400);
  const intent = findPaymentIntent(ctx, payment_intent ?? '', 'payment_intent', 400);
  const latest = intent.latest_charge && findCharge(ctx, intent.latest_charge, 'charge', 400);
  if (latest && latest.status !== 'failed') return latest;
  throw new ApiError(400, {
    type: 'invalid_request_error',
    code: 'payment_intent_unexpected_state',
    param: 'payment_intent',
    message: `This PaymentIntent (${intent.id}) does not have a successful charge to refund.`,
  });
}

export const refundExpandable: Expandable = {
  balance_transaction: expandBalanceTransaction('balance_transaction'),
  charge: (ctx, view) => ctx.store.get(charges, String(view.charge))?.view,
  customer: expandCustomer,
  failure_balance_transaction: expandBalanceTransaction('failure_balance_transaction'),
  payment_intent: (ctx, view) => ctx.store.get(paymentIntents, String(view.payment_intent))?.view,
  payment_method: (ctx, view) => ctx.store.get(paymentMethods, String(view.payment_method))?.view,
};

const listParams = { ...paging, charge: text(), created: range, payment_intent: text() };

export const refundRoutes: Route[] = [
  route('POST', '/v1/refunds', createParams, (ctx, given) =>
    createRefund(ctx, chargeToRefund(ctx, given), given),
  ),
  route('GET', '/v1/refunds', listParams, (ctx, filter) =>
    listRows(
      ctx,
      refunds,
      '/v1/refunds',
      filter,
      ({ view }) =>
        matchesFilter(filter.charge, view.charge) &&
        matchesFilter(filter.payment_intent, view.payment_intent) &&
        inRange(view.created, filter.created),
    ),
  ),
  route(
    'GET',
    '/v1/refunds/:id',
    { expand },
    (ctx, _params, ids) => findRefund(ctx, idOf(ids)).view,
  ),
  route('POST', '/v1/refunds/:id', { expand, metadata }, (ctx, given, ids) => {
    const before = findRefund(ctx, idOf(ids)).view;
    const { view } = ctx.store.patch(refunds, before.id, {
      metadata: applyMetadata(before.metadata, given.metadata),
    });
    tell(ctx, before, view);
    return view;
  }),
  route('POST', '/v1/refunds/:id/cancel', { expand }, (ctx, _params, ids) => {
    const { id, view } = findRefund(ctx, idOf(ids));
    if (view.status !== 'requires_action') {
      throw badRequest(
        `You cannot cancel this refund because it has a status of ${view.status}. Only a refund with one of the following statuses may be canceled: requires_action.`,
        { code: 'refund_unexpected_state' },
      );
    }
    return endRefund(ctx, id, { status: 'canceled', reason: 'merchant_request' });
  }),
];
