import type { Context } from './context.ts';
import { badRequest } from './errors.ts';
import { type ChargeView, findCharge } from './resources/charges.ts';
import { findSession } from './resources/checkoutSessions.ts';
import { chargesOfInvoice } from './resources/invoicePayments.ts';
import { findPaymentIntent } from './resources/paymentIntents.ts';
import { charges } from './tables.ts';

/**
 * The charge by which something was paid: of a charge itself, a payment intent, a checkout session or
 * an invoice; `last` is the newest one that succeeded.
 * @throws ApiError when there is no such thing, or nothing was charged for it.
 */
export function chargeBehind(ctx: Context, id: string): ChargeView {
  if (id === 'last') return lastCharge(ctx);
  const charge = id.startsWith('in_')
    ? (chargesOfInvoice(ctx, id)[0]?.id ?? null)
    : id.startsWith('cs_')
      ? chargeOfIntent(ctx, findSession(ctx, id).view.payment_intent)
      : id.startsWith('pi_')
        ? chargeOfIntent(ctx, id)
        : id;
  if (charge === null) throw badRequest(`Nothing was charged for ${id}.`, { param: 'id' });
  return findCharge(ctx, charge, 'id', 404);
}

function chargeOfIntent(ctx: Context, intent: string | null): string | null {
  return intent === null ? null : findPaymentIntent(ctx, intent).latest_charge;
}

function lastCharge(ctx: Context): ChargeView {
  for (const { view } of ctx.store.walk(charges, 'newest_first')) {
    if (view.status === 'succeeded') return view;
  }
  throw badRequest('Nothing has been paid in this sandbox yet: there is no last charge.');
}
