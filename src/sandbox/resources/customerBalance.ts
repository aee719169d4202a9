import { changeBalance } from '../billing/customerBalance.ts';
import { noSuch } from '../errors.ts';
import { listRows } from '../listing.ts';
import { AMOUNT_MAX } from '../money.ts';
import {
  clearable,
  currency,
  expand,
  integer,
  metadata,
  paging,
  refused,
  required,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { customerBalanceTransactions } from '../tables.ts';
import { findCustomer } from './customers.ts';
import { applyMetadata } from './fields.ts';

const createParams = {
  amount: required(integer({ min: -AMOUNT_MAX, max: AMOUNT_MAX })),
  currency: required(currency),
  description: clearable(text(350)),
  expand,
  metadata,
};

/** A customer's credit (negative) or debt, which his next invoices use up. */
export const customerBalanceRoutes: Route[] = [
  route('POST', '/v1/customers/:id/balance_transactions', createParams, (ctx, given, ids) => {
    const { id } = findCustomer(ctx, idOf(ids), 'customer', 404);
    return changeBalance(ctx, {
      customer: id,
      amount: given.amount,
      currency: given.currency,
      type: 'adjustment',
      description: given.description ?? null,
      metadata: applyMetadata({}, given.metadata),
    });
  }),
  route(
    'GET',
    '/v1/customers/:id/balance_transactions',
    { ...paging, created: refused(), invoice: text() },
    (ctx, filter, ids) => {
      const { id } = findCustomer(ctx, idOf(ids), 'customer', 404);
      return listRows(
        ctx,
        customerBalanceTransactions,
        `/v1/customers/${id}/balance_transactions`,
        filter,
        ({ view }) => filter.invoice === undefined || view.invoice === filter.invoice,
        { index: 'customer', value: id },
      );
    },
  ),
  route(
    'GET',
    '/v1/customers/:id/balance_transactions/:transaction',
    { expand },
    (ctx, _p, ids) => {
      const found = ctx.store.get(customerBalanceTransactions, idOf(ids, 'transaction'));
      if (found?.view.customer === idOf(ids)) return found.view;
      throw noSuch('customer balance transaction', idOf(ids, 'transaction'), 'transaction', 404);
    },
  ),
];
