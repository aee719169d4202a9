/** Settlements with their payments, as the SQL tests of claw-backs make and look at them. */
import type { Json } from '../../src/core/ports.ts';
import { type TestDatabase, userId } from './postgres.ts';
import { type Answer, callAsService } from './sqlCall.ts';

export interface PaymentState {
  paid?: number;
  refunded?: number;
  disputed?: number;
}

export interface Lot {
  id: string;
  entry: number;
  amount: number;
  remaining: number;
  paid: boolean;
  expires_at: Date | null;
}

export interface PaymentWorld {
  call(name: string, args: Record<string, Json | undefined>): Promise<Answer>;
  newUser(): Promise<string>;
  /** Id of a payment, the same for the same name within a user. */
  pay(user: string, name: string): string;
  /** A purchase `name`, paid for with these payments ({A: 500} = `pi_<user>_A` paid 500). */
  grant(
    user: string,
    name: string,
    credits: number,
    payments: Record<string, number>,
    fields?: Record<string, Json>,
  ): Promise<Answer>;
  bonus(user: string, name: string, credits: number, lot?: Record<string, Json>): Promise<Answer>;
  consume(user: string, amount: number, key: string, now?: string): Promise<Answer>;
  /** Reads the version, then writes the state, as a handler does that nobody disturbs. */
  set(
    user: string,
    name: string,
    state: PaymentState,
    fields?: Record<string, Json>,
  ): Promise<Answer>;
  /** What can be seen of a user's money. */
  state(user: string): Promise<{ balance: number; debt: number; remaining: number; lots: Lot[] }>;
  /** Type and amount of each entry that follows from payments, in order. */
  clawBacks(user: string): Promise<[string, number][]>;
  /** Everything that is inconsistent, or not at its target. */
  drift(): Promise<unknown[]>;
}

export function paymentWorld(database: { readonly current: TestDatabase }): PaymentWorld {
  let users = 0;
  const call = (name: string, args: Record<string, Json | undefined>) =>
    callAsService(database.current, name, args);
  const pay = (user: string, name: string) =>
    name === 'balance' ? `balance:in_${user}` : `pi_${user}_${name}`;
  return {
    call,
    pay,
    async newUser() {
      users += 1;
      const user = userId(`payer-${users}`);
      await call('ensure_user', { p_user_id: user });
      return user;
    },
    grant(user, name, credits, payments, fields = {}) {
      return call('grant_credits', {
        p_user_id: user,
        p_type: 'purchase',
        p_key: `checkout:cs_${user}_${name}`,
        p_sources: [`checkout:cs_${user}_${name}`],
        p_lots: [{ credits }],
        p_payments: Object.entries(payments).map(([payment, paid]) => ({
          payment: pay(user, payment),
          paid,
          currency: 'usd',
        })),
        ...fields,
      });
    },
    bonus(user, name, credits, lot = {}) {
      return call('grant_credits', {
        p_user_id: user,
        p_type: 'bonus',
        p_key: `grant:${name}`,
        p_lots: [{ credits, ...lot }],
      });
    },
    consume(user, amount, key, now) {
      return call('consume_credits', {
        p_user_id: user,
        p_amount: amount,
        p_key: key,
        p_now: now,
      });
    },
    async set(user, name, { paid, refunded = 0, disputed = 0 }, fields = {}) {
      const payment = pay(user, name);
      const read = await call('get_payment_state', { p_payment: payment });
      return call('set_payment_state', {
        p_payment: payment,
        p_version: read.version,
        p_paid: paid ?? read.paid,
        p_refunded: refunded,
        p_disputed: disputed,
        ...fields,
      });
    },
    async state(user) {
      const [row] = await database.current.query<{ balance: number; debt: number }>(
        `select credits_balance::int as balance, credits_debt::int as debt from users where id = $1`,
        [user],
      );
      const lots = await database.current.query<Lot>(
        `select id::text, entry_number::int as entry, amount::int, remaining::int, paid, expires_at
         from credit_grants where user_id = $1 order by id`,
        [user],
      );
      const remaining = lots.reduce((sum, lot) => sum + lot.remaining, 0);
      return { balance: row?.balance ?? 0, debt: row?.debt ?? 0, remaining, lots };
    },
    async clawBacks(user) {
      const rows = await database.current.query<{ type: string; amount: number }>(
        `select transaction_type as type, amount::int from credit_transactions
         where user_id = $1 and transaction_type like 'clawback%' order by entry_number`,
        [user],
      );
      return rows.map(({ type, amount }) => [type, amount]);
    },
    async drift() {
      return [
        ...(await database.current.query('select * from validate_credits_consistency()')),
        ...(await database.current.query('select * from purser.settlement_drift()')),
      ];
    },
  };
}
