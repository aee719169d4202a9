import { type Context, seconds } from '../context.ts';
import type { ChargeView } from './charges.ts';
import type { Metadata } from './fields.ts';

export type RefundStatus = 'pending' | 'requires_action' | 'succeeded' | 'failed' | 'canceled';
export type FailureReason =
  | 'charge_for_pending_refund_disputed'
  | 'declined'
  | 'expired_or_canceled_card'
  | 'insufficient_funds'
  | 'lost_or_stolen_card'
  | 'merchant_request'
  | 'unknown';

export type RefundView = {
  id: string;
  object: 'refund';
  amount: number;
  balance_transaction: string | null;
  charge: string;
  created: number;
  currency: string;
  customer: string | null;
  customer_account: null;
  destination_details: Destination;
  failure_balance_transaction?: string;
  failure_reason?: FailureReason;
  instructions_email?: string;
  metadata: Metadata;
  next_action?: {
    type: 'display_details';
    display_details: {
      email_sent: { email_sent_at: number; email_sent_to: string };
      expires_at: number;
    };
  };
  payment_intent: string | null;
  payment_method: string;
  pending_reason?: 'processing';
  reason: RefundReason | null;
  receipt_number: null;
  source_transfer_reversal: null;
  status: RefundStatus;
  transfer_reversal: null;
};
export type RefundReason = 'duplicate' | 'fraudulent' | 'requested_by_customer';

type Destination =
  | {
      type: 'card';
      card: {
        type: 'refund';
        reference_status: 'pending' | 'available';
        reference_type: 'acquirer_reference_number';
        reference?: string;
      };
    }
  | {
      type: 'us_bank_transfer';
      us_bank_transfer: { reference: string | null; reference_status: 'pending' | 'available' };
    };

/** How a refund goes: what it is at first, and what it becomes when the bank has worked on it. */
export type RefundCourse = 'succeeded' | 'pending' | 'fails_later' | 'requires_action';
export type RefundHidden = { ends: 'succeeded' | 'failed' | null };

const FIRST_STATUS: Readonly<Record<RefundCourse, RefundStatus>> = {
  succeeded: 'succeeded',
  pending: 'pending',
  fails_later: 'succeeded',
  requires_action: 'requires_action',
};

/** Stripe gives the customer this long to say where the money should go. Seconds. */
const INSTRUCTIONS_SECONDS = 45 * 24 * 3_600;

export function refundView(
  ctx: Context,
  charge: ChargeView,
  given: {
    amount: number;
    course: RefundCourse;
    reason: RefundReason | null;
    metadata: Metadata;
    instructions_email: string | null;
  },
): RefundView {
  const id = ctx.newId(charge.id.startsWith('py_') ? 'pyr_' : 're_');
  const email = given.instructions_email ?? charge.billing_details.email ?? 'buyer@example.com';
  return {
    id,
    object: 'refund',
    amount: given.amount,
    balance_transaction: null,
    charge: charge.id,
    created: seconds(ctx),
    currency: charge.currency,
    customer: charge.customer,
    customer_account: null,
    destination_details: destinationOf(charge),
    ...(given.instructions_email === null ? {} : { instructions_email: given.instructions_email }),
    metadata: given.metadata,
    ...(given.course === 'requires_action'
      ? {
          next_action: {
            type: 'display_details' as const,
            display_details: {
              email_sent: { email_sent_at: seconds(ctx), email_sent_to: email },
              expires_at: seconds(ctx) + INSTRUCTIONS_SECONDS,
            },
          },
        }
      : {}),
    payment_intent: charge.payment_intent,
    payment_method: charge.payment_method,
    ...(given.course === 'pending' ? { pending_reason: 'processing' as const } : {}),
    reason: given.reason,
    receipt_number: null,
    source_transfer_reversal: null,
    status: FIRST_STATUS[given.course],
    transfer_reversal: null,
  };
}

function destinationOf(charge: ChargeView): Destination {
  return charge.payment_method_details.type === 'card'
    ? {
        type: 'card',
        card: {
          type: 'refund',
          reference_status: 'pending',
          reference_type: 'acquirer_reference_number',
        },
      }
    : {
        type: 'us_bank_transfer',
        us_bank_transfer: { reference: null, reference_status: 'pending' },
      };
}

/** The bank's number of the transfer, by which a customer can ask for his money. */
export function withReference(ctx: Context, view: RefundView): Destination {
  const reference = ctx.newId('', 23).toUpperCase();
  return view.destination_details.type === 'card'
    ? {
        type: 'card',
        card: { ...view.destination_details.card, reference, reference_status: 'available' },
      }
    : { type: 'us_bank_transfer', us_bank_transfer: { reference, reference_status: 'available' } };
}
