import { readAmount, readMember } from '../../core/stripeFields.ts';
import type { Handler, HandlerDeps } from './handler.ts';
import { type MoneyBack, moneyBack } from './moneyBack.ts';

/** updated, funds_withdrawn, funds_reinstated: the state of the payment says everything. */
export const disputeChanged: Handler = async (deps, event) =>
  (await readDispute(deps, event)).effects;

/** created and closed are also written down for whoever has to answer the bank in time. */
export const disputeTold: Handler = async (deps, event) => {
  const { effects, object, userId } = await readDispute(deps, event);
  return [
    ...effects,
    {
      kind: 'audit',
      action: event.type.endsWith('.closed') ? 'dispute_closed' : 'dispute_opened',
      user_id: userId,
      reason: null,
      after: {
        dispute: event.objectId,
        status: readMember(object, 'status') ?? null,
        reason: readMember(object, 'reason') ?? null,
        amount: readAmount(readMember(object, 'amount')),
        currency: readMember(object, 'currency') ?? null,
        due_by: readAmount(readMember(object, 'evidence_details', 'due_by')),
      },
    },
  ];
};

function readDispute(deps: HandlerDeps, event: Parameters<Handler>[1]): Promise<MoneyBack> {
  return moneyBack(deps, event, () => deps.stripe.disputes.retrieve(event.objectId));
}
