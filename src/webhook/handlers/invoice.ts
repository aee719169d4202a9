import { settleInvoice } from '../../checkout/settleInvoice.ts';
import type { Handler } from './handler.ts';

/**
 * invoice.*: the invoice and its subscription are read, so every one of them says the same,
 * whichever comes first: a paid invoice is credited once under its own key, the subscription's state
 * decides about the suspension. `paid` is the only one sent for payments out of band.
 */
export const invoiceChanged: Handler = (deps, event) =>
  settleInvoice(deps, event.objectId, event.createdAt);
