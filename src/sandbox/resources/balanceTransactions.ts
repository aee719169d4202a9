import { add, type Context, seconds } from '../context.ts';
import { noSuch } from '../errors.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import { currency, expand, paging, range, refused, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { balances, balanceTransactions, charges, disputes, refunds } from '../tables.ts';

/** Why money came or went, and how Stripe's reports call it. */
const KINDS = {
  charge: { type: 'charge', reporting_category: 'charge' },
  payment: { type: 'payment', reporting_category: 'charge' },
  refund: { type: 'refund', reporting_category: 'refund' },
  payment_refund: { type: 'payment_refund', reporting_category: 'refund' },
  refund_failure: { type: 'refund_failure', reporting_category: 'refund_failure' },
  dispute: { type: 'adjustment', reporting_category: 'dispute' },
  dispute_reversal: { type: 'adjustment', reporting_category: 'dispute_reversal' },
} as const;

export type BalanceTransactionView = {
  id: string;
  object: 'balance_transaction';
  /** Signed: positive came in. */
  amount: number;
  available_on: number;
  balance_type: 'payments';
  created: number;
  currency: string;
  description: string | null;
  exchange_rate: null;
  fee: 0;
  fee_details: never[];
  net: number;
  reporting_category: (typeof KINDS)[keyof typeof KINDS]['reporting_category'];
  /** The charge, refund or dispute. */
  source: string;
  status: 'available';
  type: (typeof KINDS)[keyof typeof KINDS]['type'];
};

/** What the account has in one currency; the sum of its balance transactions, kept up to date. */
export type BalanceRow = { id: string; object: 'sandbox.balance'; amount: number };

/**
 * The only place where money moves: the transaction and the balance change together. There are no
 * fees and no payouts, so `net` is `amount` and all of it is available at once.
 */
export function moveMoney(
  ctx: Context,
  kind: keyof typeof KINDS,
  given: { amount: number; currency: string; source: string; description?: string | null },
): BalanceTransactionView {
  const before = ctx.store.get(balances, given.currency)?.view.amount ?? 0;
  add(
    ctx,
    balances,
    { id: given.currency, object: 'sandbox.balance', amount: before + given.amount },
    {},
  );
  return add(
    ctx,
    balanceTransactions,
    {
      id: ctx.newId('txn_'),
      object: 'balance_transaction',
      amount: given.amount,
      available_on: seconds(ctx),
      balance_type: 'payments',
      created: seconds(ctx),
      currency: given.currency,
      description: given.description ?? null,
      exchange_rate: null,
      fee: 0,
      fee_details: [],
      net: given.amount,
      ...KINDS[kind],
      source: given.source,
      status: 'available',
    },
    {},
  ).view;
}

/** For `expand` of a field that names a balance transaction. */
export const expandBalanceTransaction =
  (field: 'balance_transaction' | 'failure_balance_transaction') =>
  (ctx: Context, view: Record<string, unknown>) =>
    ctx.store.get(balanceTransactions, String(view[field]))?.view;

export const balanceTransactionExpandable: Expandable = {
  source: (ctx, view) => {
    const id = String(view.source);
    return (ctx.store.get(charges, id) ?? ctx.store.get(refunds, id) ?? ctx.store.get(disputes, id))
      ?.view;
  },
};

const listParams = {
  ...paging,
  created: range,
  currency,
  payout: refused('it makes no payouts'),
  source: text(),
  type: text(),
};

export const balanceTransactionRoutes: Route[] = [
  route('GET', '/v1/balance_transactions', listParams, (ctx, filter) =>
    listRows(
      ctx,
      balanceTransactions,
      '/v1/balance_transactions',
      filter,
      ({ view }) =>
        matchesFilter(filter.currency, view.currency) &&
        matchesFilter(filter.source, view.source) &&
        matchesFilter<string>(filter.type, view.type) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/balance_transactions/:id', { expand }, (ctx, _params, ids) => {
    const found = ctx.store.get(balanceTransactions, idOf(ids));
    if (!found) throw noSuch('balance transaction', idOf(ids), 'id', 404);
    return found.view;
  }),
];
