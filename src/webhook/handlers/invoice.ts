import { settleInvoice } from '../../checkout/settleInvoice.ts';
import type { Handler } from './handler.ts';

/** paid (the only one sent for payments out of band) and payment_succeeded: one key, one grant. */
export const invoicePaid: Handler = (deps, event) =>
  settleInvoice(deps, event.objectId, event.createdAt);
