import { afterCharge } from './cards.ts';
import { add, type Context } from './context.ts';
import { badRequest } from './errors.ts';
import { emit } from './events.ts';
import { findCharge } from './resources/charges.ts';
import {
  disputesOf,
  holdsMoney,
  moveDisputedMoney,
  scheduleDeadline,
} from './resources/disputes.ts';
import {
  type DisputeKind,
  type DisputeReason,
  type DisputeView,
  disputeView,
} from './resources/disputeView.ts';
import { createRefund, endRefund } from './resources/refunds.ts';
import { charges, disputes, refunds } from './tables.ts';
import type { TaskHandlers } from './tasks.ts';

/**
 * The holder of the card goes to his bank. Refunds still on their way fail, as at Stripe: the bank
 * takes the whole amount itself. `prevented` refunds the charge instead, before there is a dispute.
 * @throws ApiError when the charge was not paid, is disputed already, or for more than was paid.
 */
export function openDispute(
  ctx: Context,
  chargeId: string,
  given: { kind: DisputeKind; reason: DisputeReason; amount?: number | undefined },
): DisputeView {
  const { kind, reason } = given;
  const paid = findCharge(ctx, chargeId, 'charge', 404);
  if (paid.status !== 'succeeded') {
    throw badRequest(`Charge ${chargeId} is ${paid.status}: only what was paid can be disputed.`);
  }
  const earlier = disputesOf(ctx, chargeId).find(
    ({ status }) => status !== 'warning_closed' && status !== 'prevented',
  );
  if (earlier) {
    throw badRequest(`Charge ${chargeId} is disputed already: ${earlier.id} is ${earlier.status}.`);
  }
  if (kind === 'dispute') failPendingRefunds(ctx, chargeId);
  const charge = findCharge(ctx, chargeId, 'charge', 404);
  const left = charge.amount_captured - charge.amount_refunded;
  if (kind === 'prevented' && left === 0) {
    throw badRequest(`Charge ${chargeId} is refunded already: there is nothing to prevent.`);
  }
  // A bank also takes back what was refunded already: then it is asked of all that was paid.
  const amount = given.amount ?? (left === 0 ? charge.amount_captured : left);
  const most = kind === 'prevented' ? left : charge.amount_captured;
  if (amount > most) {
    throw badRequest(`A dispute of this charge can be at most ${most}.`, { param: 'amount' });
  }
  if (kind === 'prevented') createRefund(ctx, charge, { amount, reason: 'requested_by_customer' });
  let { view } = add(ctx, disputes, disputeView(ctx, charge, { kind, amount, reason }), {});
  ctx.store.patch(charges, chargeId, { disputed: true });
  const withdrawn = holdsMoney(view.status);
  if (withdrawn) view = moveDisputedMoney(ctx, view, 'dispute');
  scheduleDeadline(ctx, view);
  emit(ctx, 'charge.dispute.created', view);
  if (withdrawn) emit(ctx, 'charge.dispute.funds_withdrawn', view);
  return view;
}

function failPendingRefunds(ctx: Context, charge: string): void {
  const waiting = ctx.store
    .lookUp(refunds, 'charge', charge)
    .filter(({ view }) => view.status === 'pending' || view.status === 'requires_action');
  for (const { id } of waiting) {
    endRefund(ctx, id, { status: 'failed', reason: 'charge_for_pending_refund_disputed' });
  }
}

/** For cards whose holder disputes what he pays. */
export const openDisputeTasks = {
  open_dispute: (ctx, chargeId) => {
    const charge = findCharge(ctx, chargeId, 'charge', 404);
    const after = afterCharge(charge.payment_method_details)?.dispute;
    if (!after || charge.disputed || charge.refunded) return;
    openDispute(ctx, chargeId, after);
  },
} satisfies Partial<TaskHandlers>;
