import { createHash, randomBytes } from 'node:crypto';
import type { Clock } from '../core/ports.ts';
import type { Effect } from '../credits/effects.ts';

/** A receipt for something long ago would puzzle its reader: an old sale that is credited now. */
const RECEIPT_DAYS_MAX = 7;
const DAY_MS = 86_400_000;
/** As long as a key: nobody guesses one. */
const TOKEN_BYTES = 32;

type Grant = Extract<Effect, { kind: 'grant' }>;

export interface Purchase {
  grant: Grant;
  amount: number | null;
  currency: string | null;
  invoiceId: string | null;
  paymentIntentId: string | null;
  /** As Stripe collected it: where the buyer is told if his account has no address. */
  buyerEmail: string | null;
}

/** The receipt of a purchase, written only together with its grant. */
export function purchaseReceipt(clock: Clock, purchase: Purchase): Effect[] {
  const { grant, amount, currency } = purchase;
  if (isOld(clock, grant.event_at)) return [];
  return [
    {
      kind: 'notify',
      key: `receipt:${grant.key}`,
      notification: 'purchase_receipt',
      user_id: grant.user_id,
      after_grant: grant.key,
      data: {
        name: grant.description,
        credits: creditsOf(grant),
        amount,
        currency,
        // The links are read at Stripe when the mail is sent.
        invoice_url: null,
        receipt_url: null,
        invoice_id: purchase.invoiceId,
        payment_intent_id: purchase.paymentIntentId,
        buyer_email: purchase.buyerEmail,
      },
    },
  ];
}

export function creditsOf({ lots }: Grant): number {
  return lots.reduce((sum, { credits }) => sum + credits, 0);
}

export function isOld(clock: Clock, instant: string): boolean {
  return clock.now().getTime() - Date.parse(instant) > RECEIPT_DAYS_MAX * DAY_MS;
}

/** A link by which the buyer says whose a purchase of nobody's is; to the address Stripe collected. */
export function offerClaim(
  objectId: string,
  email: string | null | undefined,
  credits: number,
): Effect[] {
  if (email == null || email === '') return [];
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  return [
    {
      kind: 'claim_link',
      object_id: objectId,
      recipient: email,
      token,
      token_hash: createHash('sha256').update(token).digest('hex'),
      credits,
    },
  ];
}
