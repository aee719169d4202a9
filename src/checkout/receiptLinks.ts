import type Stripe from 'stripe';
import { callStripe } from './stripeErrors.ts';

/**
 * Where a buyer sees the invoice and the receipt of a purchase; null where Stripe made none.
 * Errors: `dependency_down`, `not_found`.
 */
export async function readReceiptLinks(
  stripe: Stripe,
  purchase: { invoice_id: string | null; payment_intent_id: string | null },
): Promise<{ invoice_url: string | null; receipt_url: string | null }> {
  const { invoice_id: invoiceId, payment_intent_id: intentId } = purchase;
  const [invoice, intent] = await Promise.all([
    invoiceId === null ? null : callStripe(() => stripe.invoices.retrieve(invoiceId)),
    intentId === null
      ? null
      : callStripe(() => stripe.paymentIntents.retrieve(intentId, { expand: ['latest_charge'] })),
  ]);
  const charge = intent?.latest_charge ?? null;
  return {
    invoice_url: invoice?.hosted_invoice_url ?? null,
    receipt_url: charge === null || typeof charge === 'string' ? null : charge.receipt_url,
  };
}
