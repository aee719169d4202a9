import type { Handler } from './handler.ts';
import { moneyBack } from './moneyBack.ts';

/** created, updated and failed, and charge.refund.updated, the older name of the second. */
export const refundChanged: Handler = async (deps, event) =>
  (await moneyBack(deps, event, () => deps.stripe.refunds.retrieve(event.objectId))).effects;
