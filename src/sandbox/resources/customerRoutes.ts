import { endSubscription } from '../billing/endSubscription.ts';
import { hasEnded } from '../billing/subscriptionState.ts';
import type { Context } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { emit } from '../events.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { expand, type Parsed } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { customers, subscriptions } from '../tables.ts';
import {
  changedCustomer,
  createCustomer,
  createParams,
  type DeletedCustomer,
  findCustomer,
  type LiveCustomer,
  listParams,
  updateCustomer,
  updateParams,
} from './customers.ts';
import { attachMethod } from './paymentMethodRoutes.ts';
import { findPaymentMethod } from './paymentMethods.ts';

const DEFAULT_METHOD = 'invoice_settings[default_payment_method]';

/** A payment method given at creation is attached first; `pm_card_visa` gets its own id by that. */
function create(ctx: Context, given: Parsed<typeof createParams>): LiveCustomer {
  const { payment_method: method, invoice_settings, ...rest } = given;
  const wanted = invoice_settings?.default_payment_method;
  if (method === undefined) {
    if (wanted !== undefined) throw notHis(wanted);
    return createCustomer(ctx, { ...rest, invoice_settings });
  }
  const settings = invoice_settings && { ...invoice_settings, default_payment_method: undefined };
  const { id } = createCustomer(ctx, { ...rest, invoice_settings: settings });
  const attached = attachMethod(ctx, method, id);
  if (wanted === undefined) return findCustomer(ctx, id, 'id', 404);
  if (wanted !== method && wanted !== attached.id) throw notHis(wanted);
  return setDefault(ctx, id, attached.id);
}

/** What he pays his invoices with from now on. */
export function setDefault(ctx: Context, id: string, method: string): LiveCustomer {
  const before = findCustomer(ctx, id, 'customer', 400);
  return updateCustomer(ctx, id, {
    invoice_settings: { ...before.invoice_settings, default_payment_method: method },
  });
}

function update(ctx: Context, id: string, given: Parsed<typeof updateParams>): LiveCustomer {
  const before = findCustomer(ctx, id, 'id', 404);
  const wanted = given.invoice_settings?.default_payment_method;
  if (wanted !== undefined) {
    const method = findPaymentMethod(ctx, wanted, DEFAULT_METHOD, 400);
    if (method.customer !== id) throw notHis(wanted);
  }
  return updateCustomer(ctx, id, changedCustomer(before, given));
}

function notHis(method: string) {
  return badRequest(
    `The customer does not have a payment method with the ID ${method}. The payment method must be attached to the customer.`,
    { param: DEFAULT_METHOD, code: 'resource_missing' },
  );
}

export const customerRoutes: Route[] = [
  route('POST', '/v1/customers', createParams, create),
  route('GET', '/v1/customers', listParams, (ctx, filter) =>
    listRows(
      ctx,
      customers,
      '/v1/customers',
      filter,
      ({ view }) =>
        !('deleted' in view) &&
        matchesFilter(filter.email, view.email) &&
        inRange(view.created, filter.created),
    ),
  ),
  // A deleted customer can still be read, and says so.
  route('GET', '/v1/customers/:id', { expand }, (ctx, _params, ids) => {
    const found = ctx.store.get(customers, idOf(ids));
    if (!found) throw noSuch('customer', idOf(ids), 'id', 404);
    return found.view;
  }),
  route('POST', '/v1/customers/:id', updateParams, (ctx, given, ids) =>
    update(ctx, idOf(ids), given),
  ),
  route('DELETE', '/v1/customers/:id', {}, (ctx, _params, ids) => {
    const before = findCustomer(ctx, idOf(ids), 'id', 404);
    for (const { view } of ctx.store.lookUp(subscriptions, 'customer', before.id)) {
      if (!hasEnded(view)) endSubscription(ctx, view.id, { reason: 'cancellation_requested' });
    }
    const gone: DeletedCustomer = { id: before.id, object: 'customer', deleted: true };
    ctx.store.put(customers, { id: before.id, view: gone, hidden: {} });
    emit(ctx, 'customer.deleted', before);
    return gone;
  }),
];
