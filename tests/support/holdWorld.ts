/** Holds of one user at a time, at times that tests choose, each test ending with sound books. */
import { afterEach, beforeEach, expect } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { type TestDatabase, testDatabase, userId } from './postgres.ts';
import { type Answer, callAsService } from './sqlCall.ts';

const NOON = '2030-01-01T12:00:00.000Z';
/** Noon and so many seconds. Grants and holds are made at noon, all else a second later. */
export const at = (seconds: number) => new Date(Date.parse(NOON) + seconds * 1000).toISOString();

type Fields = Record<string, Json | undefined>;

/** Holds that do not add up to what the accounts, or the tombstones, say is held. */
const HELD_DRIFT = `
  with accounts as (
    select id::text as user_id, credits_held from users
    union all select user_id, credits_held from closed_accounts)
  select a.user_id, a.credits_held, h.held from accounts a
  left join (select user_id, sum(amount - captured) as held from credit_holds
             where status = 'open' group by user_id) h using (user_id)
  where a.credits_held <> coalesce(h.held, 0)`;

export interface HoldWorld {
  readonly database: TestDatabase;
  /** The user of this test; each test has a new one. */
  readonly user: string;
  call(name: string, args: Fields): Promise<Answer>;
  /** Makes another user that of this test. */
  becomeOther(): Promise<void>;
  grant(credits: number, lot?: Record<string, Json>): Promise<Answer>;
  hold(amount: number, key?: string, fields?: Fields): Promise<Answer>;
  capture(holdId: string, key: string, amount?: number, fields?: Fields): Promise<Answer>;
  release(holdId: string, now?: string): Promise<Answer>;
  extend(holdId: string, seconds: number, now?: string): Promise<Answer>;
  details(holdId: string, now?: string): Promise<Answer>;
  balance(now?: string): Promise<Answer>;
  consume(amount: number, key: string, now?: string): Promise<Answer>;
  /** As a change of the subscription leaves the account. */
  suspend(): Promise<void>;
  /** A purchase that may be taken back; a credit costs a cent. */
  buy(credits: number): Promise<Answer>;
  /** What is refunded, or disputed, of that purchase from now on. */
  takeBack(cents: { refunded?: number; disputed?: number }): Promise<Answer>;
}

/** Registers the database and the checks for the calling test file. */
export function holdWorld(): HoldWorld {
  const database = testDatabase();
  let count = 0;
  let gifts = 0;
  let user = '';
  const call = (name: string, args: Fields) => callAsService(database.current, name, args);
  const asLedger = async (sql: string) => {
    await database.current.query(`begin; set local role purser_ledger; ${sql}; commit`);
  };
  async function becomeOther() {
    count += 1;
    user = userId(`holder-${count}`);
    await call('ensure_user', { p_user_id: user });
  }
  beforeEach(becomeOther);
  afterEach(async () => {
    const { query } = database.current;
    expect(await query('select * from validate_credits_consistency()')).toEqual([]);
    expect(await query(HELD_DRIFT)).toEqual([]);
  });
  return {
    get database() {
      return database.current;
    },
    get user() {
      return user;
    },
    call,
    becomeOther,
    grant(credits, lot = {}) {
      gifts += 1;
      return call('grant_credits', {
        p_user_id: user,
        p_type: 'bonus',
        p_key: `grant:${gifts}`,
        p_lots: [{ credits, ...lot }],
        p_now: at(0),
      });
    },
    hold: (amount, key = 'k', fields = {}) =>
      call('hold_credits', {
        p_user_id: user,
        p_amount: amount,
        p_key: key,
        p_now: at(0),
        ...fields,
      }),
    capture: (holdId, key, amount, fields = {}) =>
      call('capture_hold', {
        p_hold_id: holdId,
        p_key: key,
        p_amount: amount,
        p_now: at(1),
        ...fields,
      }),
    release: (holdId, now = at(1)) => call('release_hold', { p_hold_id: holdId, p_now: now }),
    extend: (holdId, seconds, now = at(1)) =>
      call('extend_hold', { p_hold_id: holdId, p_expires_in_seconds: seconds, p_now: now }),
    details: (holdId, now = at(1)) => call('get_hold', { p_hold_id: holdId, p_now: now }),
    balance: (now = at(1)) => call('get_credit_balance', { p_user_id: user, p_now: now }),
    consume: (amount, key, now = at(1)) =>
      call('consume_credits', { p_user_id: user, p_amount: amount, p_key: key, p_now: now }),
    suspend: () =>
      asLedger(`update users set credits_suspended = true, credits_version = credits_version + 1
                where id = '${user}'`),
    buy: (credits) =>
      call('grant_credits', {
        p_user_id: user,
        p_type: 'purchase',
        p_key: `checkout:cs_${user}`,
        p_sources: [`checkout:cs_${user}`],
        p_lots: [{ credits }],
        p_payments: [{ payment: `pi_${user}`, paid: credits, currency: 'usd' }],
        p_now: at(0),
      }),
    async takeBack({ refunded = 0, disputed = 0 }) {
      const payment = await call('get_payment_state', { p_payment: `pi_${user}` });
      return call('set_payment_state', {
        p_payment: `pi_${user}`,
        p_version: payment.version,
        p_paid: payment.paid,
        p_refunded: refunded,
        p_disputed: disputed,
        p_now: at(1),
      });
    },
  };
}
