import { add, type Context, seconds } from '../context.ts';
import { findCustomer, updateCustomer } from '../resources/customers.ts';
import type { Metadata } from '../resources/fields.ts';
import { customerBalanceTransactions } from '../tables.ts';

type BalanceChangeType =
  | 'adjustment'
  | 'applied_to_invoice'
  | 'credit_note'
  | 'initial'
  | 'invoice_too_small'
  | 'unapplied_from_invoice';

export type CustomerBalanceTransactionView = {
  id: string;
  object: 'customer_balance_transaction';
  amount: number;
  checkout_session: null;
  created: number;
  credit_note: string | null;
  currency: string;
  customer: string;
  customer_account: null;
  description: string | null;
  ending_balance: number;
  invoice: string | null;
  livemode: false;
  metadata: Metadata;
  type: BalanceChangeType;
};

interface BalanceChange {
  readonly customer: string;
  /** Negative: the customer has more credit. Positive: owes more. */
  readonly amount: number;
  readonly currency: string;
  readonly type: BalanceChangeType;
  readonly invoice?: string | null;
  readonly creditNote?: string | null;
  readonly description?: string | null;
  readonly metadata?: Metadata;
}

/** The only way a customer's balance changes: the balance is the sum of these, and is told. */
export function changeBalance(ctx: Context, change: BalanceChange): CustomerBalanceTransactionView {
  const customer = findCustomer(ctx, change.customer, 'customer', 400);
  const ending = customer.balance + change.amount;
  const { view } = add(
    ctx,
    customerBalanceTransactions,
    {
      id: ctx.newId('cbtxn_'),
      object: 'customer_balance_transaction',
      amount: change.amount,
      checkout_session: null,
      created: seconds(ctx),
      credit_note: change.creditNote ?? null,
      currency: change.currency,
      customer: customer.id,
      customer_account: null,
      description: change.description ?? null,
      ending_balance: ending,
      invoice: change.invoice ?? null,
      livemode: false,
      metadata: change.metadata ?? {},
      type: change.type,
    },
    {},
  );
  updateCustomer(ctx, customer.id, {
    balance: ending,
    currency: customer.currency ?? change.currency,
  });
  return view;
}
