import { z } from 'zod';
import { checkBooks } from './books.ts';
import { chargeBehind } from './chargeBehind.ts';
import { parseControl } from './controlBody.ts';
import type { ControlRoute } from './controlRoute.ts';
import { openDispute } from './openDispute.ts';
import { moveDispute } from './resources/disputes.ts';
import { DISPUTE_REASONS } from './resources/disputeView.ts';
import { createRefund, endRefund } from './resources/refunds.ts';

const amount = z.int().min(1).optional();

const refundSchema = z.strictObject({
  amount,
  course: z.enum(['succeeded', 'pending', 'fails_later', 'requires_action']).optional(),
  reason: z.enum(['duplicate', 'fraudulent', 'requested_by_customer']).optional(),
});

const refundEndSchema = z.discriminatedUnion('status', [
  z.strictObject({ status: z.literal('succeeded') }),
  z.strictObject({
    status: z.enum(['failed', 'canceled']),
    reason: z
      .enum([
        'declined',
        'expired_or_canceled_card',
        'insufficient_funds',
        'lost_or_stolen_card',
        'merchant_request',
        'unknown',
      ])
      .default('unknown'),
  }),
]);

const disputeSchema = z.strictObject({
  kind: z.enum(['dispute', 'inquiry', 'prevented']).default('dispute'),
  amount,
  reason: z.enum(DISPUTE_REASONS).default('fraudulent'),
});

/** What the bank says next; anything illegal for the dispute's status is refused by name. */
const decisionSchema = z.strictObject({
  status: z.enum(['won', 'lost', 'warning_closed', 'needs_response', 'appeal_needs_response']),
});

/** What banks and card holders do: refunds that fail, disputes, decisions; and if all of it agrees. */
export const moneyBackControl: readonly ControlRoute[] = [
  { method: 'GET', pattern: /^\/_sandbox\/books$/, run: (ctx) => checkBooks(ctx) },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/charges\/([^/]+)\/refund$/,
    run: (ctx, { id, body }) => {
      const given = parseControl(refundSchema, body);
      return { refund: createRefund(ctx, chargeBehind(ctx, id), given) };
    },
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/refunds\/([^/]+)\/end$/,
    run: (ctx, { id, body }) => ({
      refund: endRefund(ctx, id, parseControl(refundEndSchema, body)),
    }),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/charges\/([^/]+)\/dispute$/,
    run: (ctx, { id, body }) => ({
      dispute: openDispute(ctx, chargeBehind(ctx, id).id, parseControl(disputeSchema, body)),
    }),
  },
  {
    method: 'POST',
    pattern: /^\/_sandbox\/disputes\/([^/]+)\/decide$/,
    run: (ctx, { id, body }) => ({
      dispute: moveDispute(ctx, id, parseControl(decisionSchema, body).status),
    }),
  },
];
