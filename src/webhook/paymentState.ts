import type Stripe from 'stripe';
import { callStripe } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import { readAmount, readChoice } from '../core/stripeFields.ts';
import type { Effect } from '../credits/effects.ts';

/**
 * What became of a payment, read whole from Stripe. Every event of money that goes back ends here:
 * which refund or dispute it names does not matter, so order, repetition and lost events do not.
 */

export interface PaymentStateDeps {
  db: Database;
  stripe: Stripe;
}

type PaymentStateEffect = Extract<Effect, { kind: 'payment_state' }>;

export interface PaymentReading {
  /** `state` first, then findings. */
  effects: Effect[];
  state: PaymentStateEffect;
  /** Whether there is a row of it, or a grant that it paid for. */
  known: boolean;
  /** Whether a grant names the payment, so that what goes back is taken from it. */
  granted: boolean;
  /** Whose it is; null until a grant names the payment. */
  userId: string | null;
}

/** More than this of a payment's charges, refunds or disputes needs a person. */
const LISTED_MAX = 1_000;
/** So many refunds and disputes are noted in the row for whoever looks at it. */
const NOTED_MAX = 20;

const REFUND_COUNTS = {
  succeeded: true,
  pending: false,
  requires_action: false,
  failed: false,
  canceled: false,
};
/**
 * Open and lost disputes have the money. `warning_...` are inquiries, which move none; `prevented`
 * ones were refunded instead, and the refund counts.
 */
const DISPUTE_COUNTS = {
  needs_response: true,
  under_review: true,
  lost: true,
  appeal_needs_response: true,
  appeal_under_review: true,
  won: false,
  prevented: false,
  warning_needs_response: false,
  warning_under_review: false,
  warning_closed: false,
};

/**
 * The effect that writes the state of a payment (`pi_...`, or `ch_...`, `py_...` where there is no
 * intent), and findings about what nobody can read in it. The version is read first: whoever moves
 * the payment meanwhile is noticed. Errors: `dependency_down`, `not_found`.
 */
export async function paymentStateOf(
  deps: PaymentStateDeps,
  payment: string,
): Promise<PaymentReading> {
  const before = await readRow(deps, payment);
  const { charges, refunds, disputes } = await readMoney(deps.stripe, payment);
  const lost = before.paid > 0 || refunds.length > 0 || disputes.length > 0;
  if (charges.length === 0 && lost) {
    throw new PurserError('dependency_down', {
      detail: `Stripe lists no charge of ${payment}, which was paid. Does the key belong to the account that was paid?`,
    });
  }
  const findings: Effect[] = [];
  const currency = charges[0]?.currency ?? null;
  const paid = sum(charges, (charge) =>
    charge.status === 'succeeded' && charge.captured ? charge.amount_captured : 0,
  );
  const refunded = sum(refunds, (refund) => {
    if (counts(REFUND_COUNTS, refund, payment, findings)) return refund.amount;
    return 0;
  });
  const disputed = sum(disputes, (dispute) => {
    if (!counts(DISPUTE_COUNTS, dispute, payment, findings)) return 0;
    // In another currency the amount cannot be compared; banks take back the whole then.
    return dispute.currency === currency ? dispute.amount : paid;
  });
  const state: PaymentStateEffect = {
    kind: 'payment_state',
    payment,
    version: before.version,
    paid,
    refunded,
    disputed,
    currency,
    status: statusOf(charges, { paid, refunded, disputed }),
    detail: detailOf(charges, refunds, disputes),
  };
  return {
    effects: [state, ...findings],
    state,
    known: isKnown(before),
    granted: before.settlement !== null,
    userId: before.user_id,
  };
}

/** What is written of a payment here; Stripe is not asked. */
export async function knownAs(
  deps: Pick<PaymentStateDeps, 'db'>,
  payment: string,
): Promise<'unknown' | 'unpaid' | 'paid'> {
  const row = await readRow(deps, payment);
  if (!isKnown(row)) return 'unknown';
  // A grant writes what was paid, and not that an earlier failure is over.
  return row.paid > 0 && row.status !== 'failed' ? 'paid' : 'unpaid';
}

interface PaymentRow {
  version: number;
  user_id: string | null;
  paid: number;
  status: string | null;
  settlement: unknown;
}

function readRow({ db }: Pick<PaymentStateDeps, 'db'>, payment: string): Promise<PaymentRow> {
  return db.rpc<PaymentRow>('get_payment_state', { p_payment: payment });
}

function isKnown({ version, settlement }: PaymentRow): boolean {
  return version > 0 || settlement !== null;
}

async function readMoney(
  stripe: Stripe,
  payment: string,
): Promise<{ charges: Stripe.Charge[]; refunds: Stripe.Refund[]; disputes: Stripe.Dispute[] }> {
  const ofIntent = payment.startsWith('pi_');
  const filter = ofIntent ? { payment_intent: payment } : { charge: payment };
  const all = { limit: LISTED_MAX };
  const [charges, refunds, disputes] = await Promise.all([
    ofIntent
      ? callStripe(() =>
          stripe.charges.list({ payment_intent: payment, limit: 100 }).autoPagingToArray(all),
        )
      : callStripe(() => stripe.charges.retrieve(payment)).then((charge) => [charge]),
    callStripe(() => stripe.refunds.list({ ...filter, limit: 100 }).autoPagingToArray(all)),
    callStripe(() => stripe.disputes.list({ ...filter, limit: 100 }).autoPagingToArray(all)),
  ]);
  if (Math.max(charges.length, refunds.length, disputes.length) >= LISTED_MAX) {
    throw new PurserError('dependency_down', {
      detail: `${payment} has ${LISTED_MAX} charges, refunds or disputes or more, which is more than can be read. Settle it by hand: POST /api/admin/payments/${payment}/state.`,
    });
  }
  return { charges, refunds, disputes };
}

/** Whether an object's money has gone back; a status nobody knows counts as nothing and is told. */
function counts(
  table: Readonly<Record<string, boolean>>,
  { object, id, status }: { object: string; id: string; status: string | null },
  payment: string,
  findings: Effect[],
): boolean {
  const known = readChoice(status, Object.keys(table));
  if (known !== null) return table[known] ?? false;
  findings.push({
    kind: 'finding',
    code: `${object}_status_unknown`,
    subject: `payment:${payment}:${id}`,
    user_id: null,
    detail: { payment, id, status },
  });
  return false;
}

function statusOf(
  charges: Stripe.Charge[],
  { paid, refunded, disputed }: { paid: number; refunded: number; disputed: number },
): string {
  if (disputed > 0) return 'disputed';
  if (refunded > 0) return refunded < paid ? 'partially_refunded' : 'refunded';
  if (paid > 0) return 'succeeded';
  return charges.some(({ status }) => status !== 'failed') ? 'pending' : 'failed';
}

function detailOf(
  charges: Stripe.Charge[],
  refunds: Stripe.Refund[],
  disputes: Stripe.Dispute[],
): Record<string, unknown> {
  const note = ({ id, amount, status }: { id: string; amount: number; status: string | null }) => ({
    id,
    amount,
    status,
  });
  return {
    charges: charges.slice(0, NOTED_MAX).map(note),
    refunds: refunds.slice(0, NOTED_MAX).map(note),
    disputes: disputes.slice(0, NOTED_MAX).map(note),
  };
}

function sum<T>(items: T[], amountOf: (item: T) => number): number {
  return items.reduce((total, item) => total + (readAmount(amountOf(item)) ?? 0), 0);
}
