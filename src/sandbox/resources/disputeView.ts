import { type Context, seconds } from '../context.ts';
import type { BalanceTransactionView } from './balanceTransactions.ts';
import type { ChargeView } from './charges.ts';
import type { Metadata } from './fields.ts';

/** Legal moves; a status without any is the end. */
export const DISPUTE_MOVES = {
  warning_needs_response: ['warning_under_review', 'warning_closed', 'needs_response'],
  warning_under_review: ['warning_closed', 'needs_response'],
  warning_closed: [],
  needs_response: ['under_review', 'won', 'lost'],
  under_review: ['won', 'lost'],
  won: [],
  lost: ['appeal_needs_response'],
  appeal_needs_response: ['appeal_under_review', 'lost'],
  appeal_under_review: ['won', 'lost'],
  prevented: [],
} as const satisfies Record<string, readonly string[]>;

export type DisputeStatus = keyof typeof DISPUTE_MOVES;

/** `dispute` takes the money at once, `inquiry` only asks, `prevented` was refunded before. */
export const FIRST_STATUS = {
  dispute: 'needs_response',
  inquiry: 'warning_needs_response',
  prevented: 'prevented',
} as const satisfies Record<string, DisputeStatus>;
export type DisputeKind = keyof typeof FIRST_STATUS;

export const DISPUTE_REASONS = [
  'bank_cannot_process',
  'check_returned',
  'credit_not_processed',
  'customer_initiated',
  'debit_not_authorized',
  'duplicate',
  'fraudulent',
  'general',
  'incorrect_account_details',
  'insufficient_funds',
  'noncompliant',
  'product_not_received',
  'product_unacceptable',
  'subscription_canceled',
  'unrecognized',
] as const;
export type DisputeReason = (typeof DISPUTE_REASONS)[number];

/** Texts of evidence; files are not simulated and stay null. */
export const EVIDENCE_TEXTS = [
  'access_activity_log',
  'billing_address',
  'cancellation_policy_disclosure',
  'cancellation_rebuttal',
  'customer_email_address',
  'customer_name',
  'customer_purchase_ip',
  'duplicate_charge_explanation',
  'duplicate_charge_id',
  'product_description',
  'refund_policy_disclosure',
  'refund_refusal_explanation',
  'service_date',
  'shipping_address',
  'shipping_carrier',
  'shipping_date',
  'shipping_tracking_number',
  'uncategorized_text',
] as const;
export const EVIDENCE_FILES = [
  'cancellation_policy',
  'customer_communication',
  'customer_signature',
  'duplicate_charge_documentation',
  'receipt',
  'refund_policy',
  'service_documentation',
  'shipping_documentation',
  'uncategorized_file',
] as const;

type Evidence = Record<(typeof EVIDENCE_TEXTS)[number], string | null> &
  Record<(typeof EVIDENCE_FILES)[number], null> & { enhanced_evidence: Record<string, never> };

export type DisputeView = {
  id: string;
  object: 'dispute';
  amount: number;
  balance_transactions: BalanceTransactionView[];
  charge: string;
  created: number;
  currency: string;
  enhanced_eligibility_types: never[];
  evidence: Evidence;
  evidence_details: {
    due_by: number | null;
    enhanced_eligibility: Record<string, never>;
    has_evidence: boolean;
    past_due: boolean;
    submission_count: number;
    submission_method: 'manual' | 'not_submitted';
  };
  intended_submission_method: null;
  is_charge_refundable: boolean;
  livemode: false;
  metadata: Metadata;
  network_reason_code: string | null;
  payment_intent: string | null;
  payment_method_details?: {
    type: 'card';
    card: {
      brand: string;
      case_type: 'chargeback' | 'inquiry' | 'resolution';
      network: string;
      network_reason_code: string;
    };
  };
  reason: DisputeReason;
  status: DisputeStatus;
};

/** Time for an answer to the bank. Seconds. */
const RESPONSE_SECONDS = 7 * 24 * 3_600;
/** Visa's code for each kind of reason, where it has one; else the one for "other". */
const REASON_CODES: Partial<Record<DisputeReason, string>> = {
  credit_not_processed: '13.6',
  duplicate: '12.6.1',
  fraudulent: '10.4',
  product_not_received: '13.1',
  product_unacceptable: '13.3',
  subscription_canceled: '13.2',
};
const CASE_TYPES = { dispute: 'chargeback', inquiry: 'inquiry', prevented: 'resolution' } as const;

export function disputeView(
  ctx: Context,
  charge: ChargeView,
  given: { kind: DisputeKind; amount: number; reason: DisputeReason },
): DisputeView {
  const blank = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, null]));
  const code = REASON_CODES[given.reason] ?? '12.9';
  const { payment_method_details: paidWith } = charge;
  return {
    id: ctx.newId('du_'),
    object: 'dispute',
    amount: given.amount,
    balance_transactions: [],
    charge: charge.id,
    created: seconds(ctx),
    currency: charge.currency,
    enhanced_eligibility_types: [],
    evidence: {
      ...blank(EVIDENCE_TEXTS),
      ...blank(EVIDENCE_FILES),
      enhanced_evidence: {},
    } as Evidence,
    evidence_details: {
      due_by: given.kind === 'prevented' ? null : seconds(ctx) + RESPONSE_SECONDS,
      enhanced_eligibility: {},
      has_evidence: false,
      past_due: false,
      submission_count: 0,
      submission_method: 'not_submitted',
    },
    intended_submission_method: null,
    is_charge_refundable: given.kind === 'inquiry',
    livemode: false,
    metadata: {},
    network_reason_code: paidWith.type === 'card' ? code : null,
    payment_intent: charge.payment_intent,
    ...(paidWith.type === 'card'
      ? {
          payment_method_details: {
            type: 'card',
            card: {
              brand: paidWith.card.brand,
              case_type: CASE_TYPES[given.kind],
              network: paidWith.card.brand,
              network_reason_code: code,
            },
          },
        }
      : {}),
    reason: given.reason,
    status: FIRST_STATUS[given.kind],
  };
}
