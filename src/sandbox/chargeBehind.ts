import type { Context } from './context.ts';
import { badRequest } from './errors.ts';
import { type ChargeView, findCharge } from './resources/charges.ts';
import { findSession } from './resources/checkoutSessions.ts';
import { chargesOfInvoice } from './resources/invoicePayments.ts';
import { findPaymentIntent } from './resources/paymentIntents.ts';
import { charges, subscriptions } from './tables.ts';

/**
 * The charge by which something was paid: of a charge itself, a payment intent, a checkout session, an
 * invoice, or a subscription's latest invoice; `last` is the newest one that succeeded.
 * @throws ApiError when there is no such thing, or nothing was charged for it.
 */
export function chargeBehind(ctx: Context, id: string): ChargeView {
  if (id === 'last') return lastCharge(ctx);
  const charge = chargeIdBehind(ctx, id);
  if (charge === null) throw badRequest(`Nothing was charged for ${id}.`, { param: 'id' });
  return findCharge(ctx, charge, 'id', 404);
}

function chargeIdBehind(ctx: Context, id: string): string | null {
  if (id.startsWith('pi_')) return chargeOfIntent(ctx, id);
  if (id.startsWith('in_')) return chargeOfInvoice(ctx, id);
  if (id.startsWith('sub_')) {
    return chargeOfInvoice(ctx, ctx.store.get(subscriptions, id)?.view.latest_invoice ?? null);
  }
  if (!id.startsWith('cs_')) return id;
  const { payment_intent, invoice } = findSession(ctx, id).view;
  return chargeOfIntent(ctx, payment_intent) ?? chargeOfInvoice(ctx, invoice);
}

function chargeOfInvoice(ctx: Context, invoice: string | null): string | null {
  return invoice === null ? null : (chargesOfInvoice(ctx, invoice)[0]?.id ?? null);
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
