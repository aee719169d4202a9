import { PurserError } from '../core/errors.ts';
import type { Database, MirrorRecord } from '../core/ports.ts';
import type { Mirror } from './mirror.ts';

/**
 * Payments and what became of them, as sql/payments_migration.sql keeps them. How many credits
 * follow from it is decided there.
 */

/** What a payment's amounts are now, in the smallest unit of its currency. */
export interface PaymentAmounts {
  paid: number;
  /** Refunds that succeeded. */
  refunded: number;
  /** Disputes that are open or lost; inquiries and disputes that were won count 0. */
  disputed: number;
}

export interface PaymentRecord extends PaymentAmounts {
  payment: string;
  /** Rises with every change; 0 = nothing is recorded yet. */
  version: number;
  /** Whose it is; null until a grant names the payment. */
  user_id: string | null;
  currency: string | null;
  status: string | null;
}

/** The grant that the payment settled, and the credits taken back of it. */
export interface PaymentSettlement {
  transaction_id: string;
  /** Credits. */
  granted: number;
  /** All that was paid for it, customer balance included. */
  settled: number;
  /** Credits to be taken back for the amounts as they are. */
  target: number;
  /** Credits that are taken back; differs from `target` only while the account is closed. */
  clawed: number;
  payments: ({ payment: string } & PaymentAmounts)[];
  entries: {
    transaction_id: string;
    transaction_type: 'clawback' | 'clawback_reversal';
    amount: number;
    created_at: string;
  }[];
}

export type PaymentState = PaymentRecord & { settlement: PaymentSettlement | null };

export interface PaymentChange {
  payment: string;
  /** The version that was read before the amounts were looked up. */
  version: number;
  amounts: PaymentAmounts;
  /** Kept as they were where left out. */
  currency?: string | undefined;
  status?: string | undefined;
  /** Mandatory: who does it and why, for the audit log. */
  reason: string;
}

export type ChangedPayment = PaymentRecord & {
  /** `stale`: the payment has moved on to `version`; nothing was written. */
  outcome: 'applied' | 'unchanged' | 'stale';
  /** The entry that followed, and its signed amount; null where none did. */
  transaction_id: string | null;
  amount: number | null;
};

export interface Payments {
  /** Errors: `not_found`, `dependency_down`. */
  state(payment: string): Promise<PaymentState>;
  /**
   * Writes what became of a payment by a person's word, audited, and what follows for the credits,
   * in one transaction. Repeating it changes nothing. Errors: `dependency_down`.
   */
  change(change: PaymentChange, actor: string): Promise<ChangedPayment>;
}

type Answered<T> = T & { detail: Record<string, unknown> };

export function createPayments({ db, mirror }: { db: Database; mirror: Mirror }): Payments {
  return {
    async state(payment) {
      const { outcome, detail, ...state } = await db.rpc<
        Answered<PaymentState> & { outcome: 'found' | 'not_found' }
      >('get_payment_state', { p_payment: payment });
      if (outcome === 'not_found' && state.settlement === null) {
        throw new PurserError('not_found', {
          detail: `Nothing is known of the payment ${payment}. Is it of this Stripe account, and did it buy credits?`,
        });
      }
      return state;
    },

    async change({ payment, version, amounts, currency, status, reason }, actor) {
      const {
        mirror: record,
        detail,
        ...changed
      } = await db.rpc<
        Answered<Omit<ChangedPayment, 'transaction_id' | 'amount'>> &
          Partial<Pick<ChangedPayment, 'transaction_id' | 'amount'>> & {
            mirror?: MirrorRecord | null;
          }
      >('set_payment_state', {
        p_payment: payment,
        p_version: version,
        p_paid: amounts.paid,
        p_refunded: amounts.refunded,
        p_disputed: amounts.disputed,
        p_currency: currency,
        p_status: status,
        p_actor: actor,
        p_reason: reason,
      });
      if (record && changed.user_id !== null) mirror.update(changed.user_id, record);
      const { transaction_id = null, amount = null } = changed;
      return { ...changed, transaction_id, amount };
    },
  };
}
