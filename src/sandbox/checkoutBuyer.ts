import type { Context } from './context.ts';
import { findSession } from './resources/checkoutSessions.ts';
import type { SessionView } from './resources/checkoutView.ts';
import { createCustomer } from './resources/customers.ts';
import type { BillingDetails } from './resources/paymentMethods.ts';
import { sessions } from './tables.ts';

export const EMPTY_ADDRESS = {
  city: null,
  country: null,
  line1: null,
  line2: null,
  postal_code: null,
  state: null,
};

/**
 * Subscriptions and invoices need a customer; otherwise one is made only when the session asks for it.
 */
export function ensureCustomer(ctx: Context, id: string): string | null {
  const { view } = findSession(ctx, id);
  if (view.customer !== null) return view.customer;
  const needed = view.mode === 'subscription' || view.invoice_creation?.enabled;
  if (view.customer_creation !== 'always' && !needed) return null;
  const details = view.customer_details;
  const customer = createCustomer(ctx, {
    email: details?.email ?? null,
    name: details?.name ?? null,
  });
  ctx.store.patch(sessions, id, { customer: customer.id });
  return customer.id;
}

export function billingOf(session: SessionView): BillingDetails {
  const details = session.customer_details;
  return {
    address: details?.address ?? EMPTY_ADDRESS,
    email: details?.email ?? null,
    name: details?.name ?? null,
    phone: null,
    tax_id: null,
  };
}
