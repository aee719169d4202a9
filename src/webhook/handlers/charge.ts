import type { Handler } from './handler.ts';
import { moneyBack } from './moneyBack.ts';

/** charge.refunded: the charge tells a sum, pending refunds in it; the refunds themselves count. */
export const chargeRefunded: Handler = async (deps, event) =>
  (await moneyBack(deps, event, () => deps.stripe.charges.retrieve(event.objectId))).effects;
