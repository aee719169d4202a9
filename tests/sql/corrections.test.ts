import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { type Answer, callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let count = 0;
let user = '';
beforeEach(async () => {
  count += 1;
  user = userId(`corrected-${count}`);
  await call('ensure_user', { p_user_id: user });
});
afterEach(async () => {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});

type Args = Record<string, Json | undefined>;
const give = (credits: number, lot: Record<string, Json> = {}, args: Args = {}) =>
  call('grant_credits', {
    p_user_id: user,
    p_type: 'purchase',
    p_key: `checkout:${user}-${Math.random()}`,
    p_lots: [{ credits, ...lot }],
    ...args,
  });
const consume = (amount: number, key: string, args: Args = {}) =>
  call('consume_credits', { p_user_id: user, p_amount: amount, p_key: key, ...args });
const refund = (transaction: string, key: string, amount?: number, args: Args = {}) =>
  call('refund_usage', {
    p_user_id: user,
    p_transaction_id: transaction,
    p_key: key,
    p_amount: amount,
    ...args,
  });
const adjust = (amount: number, key: string, args: Args = {}) =>
  call('adjust_credits', {
    p_user_id: user,
    p_amount: amount,
    p_key: key,
    p_reason: 'support case 7',
    p_actor: 'admin:0123abcd',
    ...args,
  });
const balance = () => call('get_credit_balance', { p_user_id: user });
const lots = () =>
  database.current.query<{
    id: string;
    amount: string;
    remaining: string;
    paid: boolean;
    from_plan: boolean;
    expires_at: Date | null;
    exhausted: boolean;
  }>(
    `select id, amount, remaining, paid, from_plan, expires_at, exhausted_at is not null as exhausted
     from credit_grants where user_id = $1 order by id`,
    [user],
  );
const remaining = async () => (await lots()).map((lot) => Number(lot.remaining));
const entries = () =>
  database.current.query('select * from credit_transactions where user_id = $1 order by 2', [user]);

describe('a usage refund', () => {
  it('follows the outcomes of the table, line by line', async () => {
    await give(50);
    const { transaction_id: usage } = await consume(20, 'a');
    const { transaction_id: other } = await consume(6, 'b');
    const steps: [string, string, number | undefined, Record<string, unknown>][] = [
      [usage, 'r1', 21, { outcome: 'exceeds_usage', left: 20, balance: 24 }],
      [usage, 'r1', 5, { outcome: 'applied', amount: 5, balance: 29, repaid_debt: 0 }],
      [usage, 'r1', 5, { outcome: 'replayed', amount: 5, balance: 29 }],
      [usage, 'r1', 6, { outcome: 'conflict' }],
      [usage, 'r1', undefined, { outcome: 'conflict' }],
      [other, 'r1', 5, { outcome: 'conflict' }],
      ['999999', 'r1', 5, { outcome: 'conflict' }],
      [usage, 'r2', 16, { outcome: 'exceeds_usage', left: 15 }],
      [usage, 'r2', undefined, { outcome: 'applied', amount: 15, balance: 44 }],
      [usage, 'r2', undefined, { outcome: 'replayed', amount: 15, balance: 44 }],
      [usage, 'r2', 15, { outcome: 'replayed', amount: 15, balance: 44 }],
      [usage, 'r2', 14, { outcome: 'conflict' }],
      [usage, 'r3', undefined, { outcome: 'exceeds_usage', left: 0 }],
      [usage, 'r3', 1, { outcome: 'exceeds_usage', left: 0 }],
      [other, 'r3', undefined, { outcome: 'applied', amount: 6, balance: 50 }],
      [usage, 'r1', 5, { outcome: 'replayed', amount: 5, balance: 29 }],
    ];
    for (const [transaction, key, amount, expected] of steps) {
      expect(await refund(transaction, key, amount)).toMatchObject(expected);
    }
    expect(await remaining()).toEqual([50]);
  });

  it('is replayed whatever description and metadata it comes with', async () => {
    await give(50);
    const { transaction_id: usage } = await consume(20, 'a');
    const { repaid_debt, ...first } = await refund(usage, 'r', 20, {
      p_description: 'one',
      p_metadata: { n: 1 },
    });
    expect(repaid_debt).toBe(0);
    expect(await refund(usage, 'r', 20, { p_description: 'two' })).toEqual({
      ...first,
      outcome: 'replayed',
    });
    expect(await refund(usage, 'r', 20, { p_metadata: { n: 2 } })).toEqual({
      ...first,
      outcome: 'replayed',
    });
    const [, spent, refunded] = await entries();
    expect(refunded).toMatchObject({
      transaction_type: 'usage_refund',
      idempotency_key: 'refund:r',
      reverses: spent?.entry_number,
      description: 'one',
      metadata: { n: 1 },
    });
  });

  it.each<[string, (mine: Answer, theirs: Answer) => string]>([
    ["another user's usage", (_, theirs) => theirs.transaction_id],
    ['a purchase', (mine) => String(Number(mine.transaction_id) - 1)],
    ['an id nobody has', () => '123456789012345678'],
    ['the id after the last', (mine) => String(Number(mine.transaction_id) + 1)],
    ['no id at all', () => 'pi_123'],
    ['an id too long for a number', () => '9'.repeat(30)],
    ['an id with spaces', (mine) => ` ${mine.transaction_id}`],
  ])('of %s is not_found', async (_what, pick) => {
    await give(50);
    const mine = await consume(1, 'a');
    const me = user;
    user = userId(`corrected-${count}-b`);
    await call('ensure_user', { p_user_id: user });
    await give(50);
    const theirs = await consume(1, 'a');
    user = me;
    const id = pick(mine, theirs);
    expect(await refund(id, 'r')).toMatchObject({ outcome: 'not_found', transaction_id: id });
    expect(await balance()).toMatchObject({ balance: 49, version: 2 });
  });

  it('of an unknown user is not_found, without a transaction', async () => {
    const nobody = userId('nobody');
    expect(await refund('1', 'r', 1, { p_user_id: nobody })).toEqual({
      outcome: 'not_found',
      user_id: nobody,
    });
  });

  it('of a refund is not_found: only usage is given back', async () => {
    await give(50);
    const { transaction_id: usage } = await consume(5, 'a');
    const { transaction_id: refunded } = await refund(usage, 'r');
    expect(await refund(refunded, 'r2')).toMatchObject({ outcome: 'not_found' });
  });

  it.each<[string, Args]>([
    ['nothing', { p_amount: 0 }],
    ['less than nothing', { p_amount: -1 }],
    ['no key', { p_key: '' }],
  ])('of %s is a broken contract', async (_what, args) => {
    await expect(refund('1', 'r', 1, args)).rejects.toMatchObject({ code: 'PT400' });
  });

  it('returns to the lots last taken first, and goes on where the last refund ended', async () => {
    for (const credits of [10, 20, 30]) await give(credits);
    const { transaction_id: usage, lots: taken } = await consume(55, 'a');
    expect(await remaining()).toEqual([0, 0, 5]);
    const ids = taken.map((lot: { grant_id: string }) => lot.grant_id);
    const steps: [number, number[], [number, number][]][] = [
      [4, [0, 0, 9], [[2, 4]]],
      [
        22,
        [0, 1, 30],
        [
          [2, 21],
          [1, 1],
        ],
      ],
      [19, [0, 20, 30], [[1, 19]]],
      [10, [10, 20, 30], [[0, 10]]],
    ];
    for (const [index, [amount, left, parts]] of steps.entries()) {
      const answer = await refund(usage, `r${index}`, amount);
      expect(answer.lots).toEqual(parts.map(([lot, n]) => ({ grant_id: ids[lot], amount: n })));
      expect(await remaining()).toEqual(left);
    }
    expect((await lots()).some((lot) => lot.exhausted)).toBe(false);
  });

  it('opens an exhausted lot again, which can be spent', async () => {
    await give(10);
    const { transaction_id: usage } = await consume(10, 'a');
    expect((await lots())[0]).toMatchObject({ remaining: '0', exhausted: true });
    await refund(usage, 'r', 4);
    expect((await lots())[0]).toMatchObject({ remaining: '4', exhausted: false });
    expect(await consume(4, 'b')).toMatchObject({ outcome: 'applied', balance: 0 });
  });

  it('of a lot that expired since comes back as a free lot of 7 days', async () => {
    const now = '2030-01-01T00:00:00Z';
    await give(10, { expires_at: '2030-01-02T00:00:00Z', paid: true }, { p_now: now });
    await give(10, { paid: true }, { p_now: now });
    const { transaction_id: usage } = await consume(14, 'a', { p_now: now });
    // What is left is 6 of the second lot; the first was used up before it ended.
    const later = '2030-01-05T12:00:00Z';
    const answer = await refund(usage, 'r', 9, { p_now: later });
    expect(answer).toMatchObject({ outcome: 'applied', balance: 15, available: 15 });
    const [expired, open, fresh] = await lots();
    expect(expired).toMatchObject({ remaining: '0', exhausted: true });
    expect(open).toMatchObject({ remaining: '10' });
    expect(fresh).toMatchObject({ amount: '5', remaining: '5', paid: false, exhausted: false });
    expect(fresh?.expires_at?.toISOString()).toBe('2030-01-12T12:00:00.000Z');
    expect(answer.lots).toEqual([
      { grant_id: open?.id, amount: 4 },
      { grant_id: fresh?.id, amount: 5 },
    ]);
    await call('expire_due_credits', { p_now: '2030-01-12T12:00:00Z' });
    expect(await remaining()).toEqual([0, 10, 0]);
  });

  it('of a lot that expires this instant comes back as a free lot, too', async () => {
    const end = '2030-01-02T00:00:00.000Z';
    await give(10, { expires_at: end }, { p_now: '2030-01-01T00:00:00Z' });
    const { transaction_id: usage } = await consume(10, 'a', { p_now: '2030-01-01T00:00:00Z' });
    expect(await refund(usage, 'r', 3, { p_now: end })).toMatchObject({ balance: 3 });
    expect(await remaining()).toEqual([0, 3]);
  });

  it('of an expired plan lot stays a plan lot, which a suspension keeps from being spent', async () => {
    const now = '2030-01-01T00:00:00Z';
    const lot = { expires_at: '2030-01-02T00:00:00Z', from_plan: true };
    await give(10, lot, { p_now: now });
    const { transaction_id: usage } = await consume(10, 'a', { p_now: now });
    await database.current.query(
      `begin; set local role purser_ledger;
       update users set credits_suspended = true where id = '${user}'; reset role; commit`,
    );
    expect(await refund(usage, 'r', 10, { p_now: '2030-01-03T00:00:00Z' })).toMatchObject({
      outcome: 'applied',
      balance: 10,
      available: 0,
    });
    expect((await lots())[1]).toMatchObject({ from_plan: true });
  });

  it('repays debt first, and only the rest returns to lots', async () => {
    await give(10);
    await give(10);
    const { transaction_id: usage } = await consume(20, 'a');
    await adjust(-7, 'd', { p_allow_debt: true });
    expect(await balance()).toMatchObject({ balance: -7, debt: 7 });
    expect(await refund(usage, 'r1', 4)).toMatchObject({ balance: -3, repaid_debt: 4, lots: [] });
    const answer = await refund(usage, 'r2', 10);
    expect(answer).toMatchObject({ balance: 7, repaid_debt: 3 });
    expect(answer.lots.map((lot: { amount: number }) => lot.amount)).toEqual([3, 4]);
    expect(await remaining()).toEqual([4, 3]);
    expect(await refund(usage, 'r3')).toMatchObject({ amount: 6, balance: 13 });
    expect(await remaining()).toEqual([10, 3]);
    expect(await balance()).toMatchObject({ debt: 0 });
  });

  it('finds its entry among thousands', async () => {
    await give(3000);
    const ids: string[] = [];
    for (let n = 0; n < 300; n += 1) ids.push((await consume(1, `k${n}`)).transaction_id);
    for (const [n, id] of ids.entries()) {
      if (n % 7 !== 0) continue;
      expect(await refund(id, `r${n}`)).toMatchObject({ outcome: 'applied', amount: 1 });
    }
    expect(await refund(String(Number(ids[0]) - 1), 'x')).toMatchObject({ outcome: 'not_found' });
  });

  it('tried 16 times at once under 16 keys is applied once, in full', async () => {
    await give(50);
    const { transaction_id: usage } = await consume(20, 'a');
    const answers = await concurrently(16, (n) => refund(usage, `r${n}`));
    expect(countBy(answers.map(({ outcome }) => outcome))).toEqual({
      applied: 1,
      exceeds_usage: 15,
    });
    expect(await balance()).toMatchObject({ balance: 50 });
  });

  it('tried 16 times at once under one key is applied once and replayed 15 times', async () => {
    await give(50);
    const { transaction_id: usage } = await consume(20, 'a');
    const answers = await concurrently(16, () => refund(usage, 'r'));
    expect(countBy(answers.map(({ outcome }) => outcome))).toEqual({ applied: 1, replayed: 15 });
  });

  it('in 16 parts at once never gives back more than was taken', async () => {
    for (const credits of [8, 8, 8]) await give(credits);
    const { transaction_id: usage } = await consume(20, 'a');
    const answers = await concurrently(16, (n) => refund(usage, `r${n}`, 3));
    expect(countBy(answers.map(({ outcome }) => outcome))).toEqual({
      applied: 6,
      exceeds_usage: 10,
    });
    expect(await remaining()).toEqual([6, 8, 8]);
    expect(await refund(usage, 'rest')).toMatchObject({ amount: 2 });
  });
});

describe('an adjustment', () => {
  it('follows the outcomes of the table, line by line', async () => {
    await give(50);
    const steps: [number, string, Args, Record<string, unknown>][] = [
      [5, 'a', {}, { outcome: 'applied', amount: 5, balance: 55, version: 2 }],
      [5, 'a', {}, { outcome: 'replayed', amount: 5, balance: 55, version: 2 }],
      [5, 'a', { p_reason: 'another' }, { outcome: 'replayed', balance: 55 }],
      [5, 'a', { p_actor: 'admin:ffffffff' }, { outcome: 'replayed', balance: 55 }],
      [5, 'a', { p_metadata: { n: 1 } }, { outcome: 'replayed', balance: 55 }],
      [5, 'a', { p_allow_debt: true }, { outcome: 'replayed', balance: 55 }],
      [-5, 'a', {}, { outcome: 'conflict' }],
      [6, 'a', {}, { outcome: 'conflict' }],
      [-56, 'b', {}, { outcome: 'insufficient_credits', balance: 55, available: 55 }],
      [-15, 'b', {}, { outcome: 'applied', amount: 15, balance: 40, version: 3 }],
      [-15, 'b', {}, { outcome: 'replayed', amount: 15, balance: 40, version: 3 }],
      [15, 'b', {}, { outcome: 'conflict' }],
      [-50, 'c', { p_allow_debt: true }, { outcome: 'applied', balance: -10, available: -10 }],
      [-1, 'd', {}, { outcome: 'insufficient_credits', balance: -10 }],
      [4, 'e', {}, { outcome: 'applied', balance: -6 }],
      [9, 'f', {}, { outcome: 'applied', balance: 3 }],
    ];
    for (const [amount, key, args, expected] of steps) {
      expect(await adjust(amount, key, args)).toMatchObject(expected);
    }
    expect(await balance()).toMatchObject({ balance: 3, debt: 0 });
    expect(await remaining()).toEqual([0, 0, 0, 3]);
  });

  it('writes who did it and why, once, with the counters before and after', async () => {
    await give(50);
    const { transaction_id } = await adjust(-20, 'a');
    await adjust(-20, 'a');
    await adjust(-21, 'a');
    await adjust(-100, 'b');
    const rows = await database.current.query(
      `select actor, action, reason, before, after from audit_events
       where user_id = $1 and action = 'adjust_credits'`,
      [user],
    );
    expect(rows).toEqual([
      {
        actor: 'admin:0123abcd',
        action: 'adjust_credits',
        reason: 'support case 7',
        before: { balance: 50, held: 0, debt: 0, version: 1, entry_count: 1 },
        after: {
          balance: 30,
          held: 0,
          debt: 0,
          version: 2,
          entry_count: 2,
          amount: -20,
          transaction_id,
        },
      },
    ]);
  });

  it('adds a lot that is free', async () => {
    const { transaction_id } = await adjust(5, 'a');
    expect(await lots()).toMatchObject([{ amount: '5', paid: false, expires_at: null }]);
    expect((await entries())[0]).toMatchObject({
      id: transaction_id,
      transaction_type: 'adjustment',
      idempotency_key: 'adjust:a',
      description: 'support case 7',
    });
  });

  it('takes in burn-down order, plan lots of a suspended user too', async () => {
    await give(10);
    await give(10, { priority: 1, from_plan: true });
    await database.current.query(
      `begin; set local role purser_ledger;
       update users set credits_suspended = true where id = '${user}'; reset role; commit`,
    );
    expect(await adjust(-12, 'a')).toMatchObject({ outcome: 'applied', balance: 8, available: 8 });
    expect(await remaining()).toEqual([8, 0]);
  });

  it('leaves what open holds reserve, unless debt is allowed', async () => {
    await give(50);
    await call('hold_credits', { p_user_id: user, p_amount: 20, p_key: 'h' });
    expect(await adjust(-31, 'a')).toMatchObject({
      outcome: 'insufficient_credits',
      balance: 50,
      available: 30,
    });
    expect(await adjust(-30, 'a')).toMatchObject({ outcome: 'applied', held: 20, available: 0 });
    expect(await adjust(-25, 'b', { p_allow_debt: true })).toMatchObject({
      outcome: 'applied',
      balance: -5,
      held: 20,
      available: -25,
    });
    expect(await remaining()).toEqual([0]);
    expect(await balance()).toMatchObject({ debt: 5 });
  });

  it.each<[string, Args]>([
    ['no reason', { p_reason: null }],
    ['a blank reason', { p_reason: '  ' }],
    ['a reason of 501 characters', { p_reason: 'x'.repeat(501) }],
    ['no actor', { p_actor: null }],
    ['a blank actor', { p_actor: ' ' }],
    ['nothing to adjust', { p_amount: 0 }],
    ['an amount past 2^53 - 1', { p_amount: 9_007_199_254_740_992 }],
    ['no amount', { p_amount: null }],
    ['no key', { p_key: '' }],
  ])('with %s is a broken contract, and nothing is written', async (_what, args) => {
    await expect(adjust(5, 'a', args)).rejects.toMatchObject({
      code: 'PT400',
      message: 'invalid_request',
    });
    expect(await entries()).toEqual([]);
  });

  it('of an unknown user is not_found', async () => {
    const nobody = userId('nobody');
    expect(await adjust(5, 'a', { p_user_id: nobody })).toEqual({
      outcome: 'not_found',
      user_id: nobody,
    });
  });

  it('tried 16 times at once is applied once', async () => {
    await give(50);
    const answers = await concurrently(16, () => adjust(-40, 'a'));
    expect(countBy(answers.map(({ outcome }) => outcome))).toEqual({ applied: 1, replayed: 15 });
    const audits = await database.current.query(
      `select 1 from audit_events where user_id = $1 and action = 'adjust_credits'`,
      [user],
    );
    expect(audits).toHaveLength(1);
  });
});

describe('a grant by the app', () => {
  const grant = (amount: number, key: string, args: Args = {}) =>
    call('grant_free_credits', {
      p_user_id: user,
      p_amount: amount,
      p_type: 'bonus',
      p_key: key,
      p_reason: 'sorry for the wait',
      ...args,
    });

  it('follows the outcomes of the table, line by line', async () => {
    const soon = new Date(Date.now() + 86_400_000).toISOString();
    const NOW = '2040-01-01T00:00:00Z';
    const past = new Date(Date.now() - 1000).toISOString();
    const steps: [number, string, Args, Record<string, unknown>][] = [
      [5, 'a', { p_expires_at: soon, p_priority: 0 }, { outcome: 'applied', balance: 5 }],
      [5, 'a', { p_expires_at: soon, p_priority: 0 }, { outcome: 'replayed', balance: 5 }],
      [5, 'a', { p_expires_at: past }, { outcome: 'replayed', balance: 5 }],
      [5, 'a', { p_priority: 7 }, { outcome: 'replayed', balance: 5 }],
      [5, 'a', { p_reason: 'another' }, { outcome: 'replayed', balance: 5 }],
      [6, 'a', {}, { outcome: 'conflict' }],
      [5, 'a', { p_type: 'adjustment' }, { outcome: 'conflict' }],
      [6, 'b', { p_expires_at: past }, { outcome: 'expired' }],
      [6, 'b', { p_expires_at: NOW, p_now: NOW }, { outcome: 'expired' }],
      [6, 'b', { p_type: 'adjustment' }, { outcome: 'applied', balance: 11 }],
    ];
    for (const [amount, key, args, expected] of steps) {
      expect(await grant(amount, key, args)).toMatchObject(expected);
    }
    expect(await lots()).toMatchObject([{ paid: false }, { paid: false, expires_at: null }]);
    expect((await entries())[0]).toMatchObject({
      transaction_type: 'bonus',
      idempotency_key: 'grant:a',
      description: 'sorry for the wait',
    });
  });

  it.each<[string, Args]>([
    ['no reason', { p_reason: null }],
    ['a purchase as its type', { p_type: 'purchase' }],
    ['no type', { p_type: null }],
    ['a priority below 0', { p_priority: -1 }],
    ['a priority above 1000', { p_priority: 1001 }],
    ['nothing in it', { p_amount: 0 }],
  ])('with %s is a broken contract, and nothing is written', async (_what, args) => {
    await expect(grant(5, 'a', args)).rejects.toMatchObject({ code: 'PT400' });
    expect(await entries()).toEqual([]);
  });

  it('under a key of 255 bytes is written, as every caller may send one', async () => {
    const key = 'k'.repeat(255);
    expect(await grant(5, key)).toMatchObject({ outcome: 'applied' });
    expect(await adjust(5, key)).toMatchObject({ outcome: 'applied' });
    const { transaction_id } = await consume(5, key);
    expect(await refund(transaction_id, key)).toMatchObject({ outcome: 'applied' });
  });

  it('of an unknown user is not_found', async () => {
    const nobody = userId('nobody');
    expect(await grant(5, 'a', { p_user_id: nobody })).toEqual({
      outcome: 'not_found',
      user_id: nobody,
    });
  });
});
