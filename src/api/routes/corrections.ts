import { adjustCredits, grantCredits, refundUsage } from '../contract/corrections.ts';
import { defineRoute } from '../defineRoute.ts';
import { mutateMoney } from '../mutateMoney.ts';

export const correctionRoutes = [
  defineRoute(refundUsage, (deps, { body, headers, query }) =>
    mutateMoney(deps, query, ({ corrections }) =>
      corrections.refundUsage({
        userId: body.user_id,
        transactionId: body.transaction_id,
        amount: body.amount,
        idempotencyKey: headers['idempotency-key'],
        description: body.description,
        metadata: body.metadata,
      }),
    ),
  ),

  defineRoute(grantCredits, (deps, { body, headers, query }) =>
    mutateMoney(deps, query, ({ corrections }) =>
      corrections.grant({
        userId: body.user_id,
        amount: body.amount,
        type: body.type,
        reason: body.reason,
        expiresAt: body.expires_at,
        priority: body.priority,
        idempotencyKey: headers['idempotency-key'],
      }),
    ),
  ),

  defineRoute(adjustCredits, (deps, { params, body, headers, query, caller }) =>
    mutateMoney(deps, query, ({ corrections }) =>
      corrections.adjust(
        { userId: params.userId, ...body, idempotencyKey: headers['idempotency-key'] },
        caller.actor,
      ),
    ),
  ),
];
