import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { paymentWorld } from '../support/paymentWorld.ts';
import { plantedHold } from '../support/plantedHold.ts';
import { testDatabase, testUsers, userId } from '../support/postgres.ts';
import { migrationFilesOfFolder } from '../support/testCluster.ts';

const database = testDatabase();
const world = paymentWorld(database);
const { call, pay, grant, bonus, consume, set, state, clawBacks, drift } = world;

let user = '';
beforeEach(async () => {
  user = await world.newUser();
});
afterEach(async () => {
  expect(await drift()).toEqual([]);
});

const money = async () => {
  const { balance, debt, remaining } = await state(user);
  return { balance, debt, remaining };
};

describe('every request and its outcome', () => {
  const pi = () => pay(user, 'A');
  /** One settled payment: 50 credits for 500, at version 1. */
  const settled = () => grant(user, 'one', 50, { A: 500 });
  const request = (fields: Record<string, Json> = {}) =>
    call('set_payment_state', {
      p_payment: pi(),
      p_version: 1,
      p_paid: 500,
      p_refunded: 0,
      p_disputed: 0,
      ...fields,
    });

  it.each<[string, Record<string, Json>, Record<string, unknown>]>([
    [
      'the same state',
      { p_version: 1 },
      { outcome: 'unchanged', version: 1, transaction_id: null, amount: null },
    ],
    ['a partial refund', { p_refunded: 100 }, { outcome: 'applied', version: 2, amount: -10 }],
    ['a refund of a fraction of a credit', { p_refunded: 9 }, { outcome: 'applied', amount: null }],
    ['a refund rounded down', { p_refunded: 19 }, { outcome: 'applied', amount: -1 }],
    ['a full refund', { p_refunded: 500 }, { outcome: 'applied', amount: -50 }],
    ['a dispute', { p_disputed: 500 }, { outcome: 'applied', amount: -50 }],
    [
      'refund and dispute beyond what was paid',
      { p_refunded: 400, p_disputed: 500 },
      { outcome: 'applied', amount: -50 },
    ],
    ['more refunded than paid', { p_refunded: 900 }, { outcome: 'applied', amount: -50 }],
    ['another currency', { p_currency: 'EUR' }, { outcome: 'applied', currency: 'eur' }],
    ['the same currency', { p_currency: 'USD' }, { outcome: 'unchanged', currency: 'usd' }],
    ['a status', { p_status: 'succeeded' }, { outcome: 'applied', status: 'succeeded' }],
    ['a detail', { p_detail: { a: 1 } }, { outcome: 'applied', detail: { a: 1 } }],
    ['no version', { p_version: 0, p_refunded: 1 }, { outcome: 'stale', version: 1 }],
    ['a version left out', { p_version: null, p_refunded: 1 }, { outcome: 'stale', version: 1 }],
    ['a version to come', { p_version: 2, p_refunded: 1 }, { outcome: 'stale', version: 1 }],
    ['the same state, read long ago', { p_version: 0 }, { outcome: 'unchanged', version: 1 }],
    ['paid less than said before', { p_paid: 400 }, { outcome: 'applied', paid: 400 }],
  ])('%s', async (_what, fields, expected) => {
    await settled();
    const answer = await request(fields);
    expect(answer).toMatchObject(expected);
    const { credits_balance } = (
      await database.current.query('select credits_balance::int from users where id = $1', [user])
    )[0] as { credits_balance: number };
    expect(credits_balance).toBe(50 + (answer.amount ?? 0));
    if (answer.outcome !== 'stale') expect(answer.mirror.balance).toBe(credits_balance);
    else expect(answer.mirror).toBeUndefined();
  });

  it.each<[string, Record<string, Json>, RegExp]>([
    ['no payment', { p_payment: null }, /null is not a payment/],
    ['customer balance', { p_payment: 'balance:in_1' }, /balance:in_1 is not a payment that can/],
    ['a negative amount', { p_refunded: -1 }, /must be whole numbers/],
    ['no amount', { p_disputed: null }, /must be whole numbers/],
    ['an amount past 2^53 - 1', { p_paid: '9007199254740992' }, /must be whole numbers/],
  ])('%s is an error, and nothing is written', async (_what, fields, text) => {
    await settled();
    await expect(request(fields)).rejects.toMatchObject({
      code: 'PT400',
      detail: expect.stringMatching(text),
    });
    expect(await call('get_payment_state', { p_payment: pi() })).toMatchObject({ version: 1 });
  });

  it('an unknown payment waits for its grant, and has versions of its own', async () => {
    const first = await request({ p_version: 0, p_refunded: 100 });
    expect(first).toMatchObject({
      outcome: 'applied',
      version: 1,
      user_id: null,
      transaction_id: null,
      mirror: null,
    });
    expect(await request({ p_version: 0 })).toMatchObject({ outcome: 'stale', version: 1 });
    // The same call again, as after a lost answer.
    expect(await request({ p_version: 0, p_refunded: 100 })).toMatchObject({
      outcome: 'unchanged',
      version: 1,
    });
    expect(await request({ p_version: 1, p_refunded: 100 })).toMatchObject({
      outcome: 'unchanged',
      version: 1,
    });
  });

  it('reading tells the version, and what it leads to', async () => {
    expect(await call('get_payment_state', { p_payment: pi() })).toEqual({
      outcome: 'not_found',
      payment: pi(),
      version: 0,
      user_id: null,
      currency: null,
      paid: 0,
      refunded: 0,
      disputed: 0,
      status: null,
      detail: {},
      settlement: null,
    });
    await settled();
    await request({ p_refunded: 100 });
    expect(await call('get_payment_state', { p_payment: pi() })).toMatchObject({
      outcome: 'found',
      version: 2,
      user_id: user,
      settlement: {
        granted: 50,
        settled: 500,
        target: 10,
        clawed: 10,
        payments: [{ payment: pi(), paid: 500, refunded: 100, disputed: 0 }],
        entries: [{ transaction_type: 'clawback', amount: -10 }],
      },
    });
  });

  it("a person's own doing is audited, once, with what was before", async () => {
    await settled();
    const own = { p_refunded: 100, p_actor: 'admin:1', p_reason: 'told by phone' };
    await request(own);
    await request({ ...own, p_version: 2 });
    await request(own);
    expect(
      await database.current.query(
        `select actor, action, reason, before ->> 'refunded' as before, after ->> 'refunded' as after
         from audit_events where user_id = $1 and action = 'set_payment_state'`,
        [user],
      ),
    ).toEqual([
      {
        actor: 'admin:1',
        action: 'set_payment_state',
        reason: 'told by phone',
        before: '0',
        after: '100',
      },
    ]);
  });
});

describe('a claw-back', () => {
  it('takes the own lots first, then the others in burn-down order, then debt', async () => {
    await bonus(user, 'b', 5);
    await grant(user, 'other', 10, { B: 100 });
    await grant(user, 'one', 50, { A: 500 });
    await consume(user, 25, 'k'); // 5 of the bonus, 10 of the other, 10 of its own
    await bonus(user, 'late', 3);
    const answer = await set(user, 'A', { refunded: 500 });
    expect(answer).toMatchObject({ outcome: 'applied', amount: -50 });
    const [entry] = await database.current.query(
      `select transaction_type as type, amount::int, lots, reverses::int, idempotency_key as key,
              balance_after::int as balance, stripe_payment_intent_id as payment
       from credit_transactions where user_id = $1 order by entry_number desc limit 1`,
      [user],
    );
    const { lots } = await state(user);
    const [, , own, late] = lots;
    expect(entry).toEqual({
      type: 'clawback',
      amount: -50,
      lots: [
        { grant_id: own?.id, amount: 40 },
        { grant_id: late?.id, amount: 3 },
      ],
      reverses: own?.entry,
      key: `clawback:${pay(user, 'A')}:1`,
      balance: -7,
      payment: pay(user, 'A'),
    });
    expect(await money()).toEqual({ balance: -7, debt: 7, remaining: 0 });
  });

  it('takes plan lots too, also while suspended, and what is held', async () => {
    await bonus(user, 'plan', 20, { from_plan: true, priority: 200 });
    await grant(user, 'one', 50, { A: 500 });
    await consume(user, 60, 'k'); // 10 are left, all of the plan
    await database.current.query(`begin; set local role purser_ledger;
      update users set credits_suspended = true, credits_held = 8 where id = '${user}';
      ${plantedHold({ user: `'${user}'`, amount: 8 })}
      reset role; commit`);
    expect(await set(user, 'A', { refunded: 500 })).toMatchObject({ amount: -50 });
    expect(await money()).toEqual({ balance: -40, debt: 40, remaining: 0 });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: -40,
      held: 8,
      available: -48,
    });
    expect(await consume(user, 1, 'k2')).toMatchObject({ outcome: 'insufficient_credits' });
  });

  it('becomes debt that the next grant repays', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await consume(user, 50, 'k');
    await set(user, 'A', { refunded: 250 });
    expect(await money()).toEqual({ balance: -25, debt: 25, remaining: 0 });
    expect(await bonus(user, 'b', 40)).toMatchObject({ outcome: 'applied', repaid_debt: 25 });
    expect(await money()).toEqual({ balance: 15, debt: 0, remaining: 15 });
  });

  it('of refunds that grow, fail and are disputed is what the amounts say', async () => {
    await grant(user, 'one', 100, { A: 300 });
    const amounts = [];
    for (const [refunded, disputed] of [
      [100, 0],
      [200, 0],
      [100, 0],
      [100, 300],
      [100, 0],
      [0, 0],
    ] as const) {
      amounts.push((await set(user, 'A', { refunded, disputed })).amount);
    }
    expect(amounts).toEqual([-33, -33, 33, -67, 67, 33]);
    expect(await money()).toEqual({ balance: 100, debt: 0, remaining: 100 });
    const keys = await database.current.query<{ key: string }>(
      `select idempotency_key as key from credit_transactions
       where user_id = $1 and transaction_type like 'clawback%' order by entry_number`,
      [user],
    );
    expect(keys.map(({ key }) => key)).toEqual(
      [1, 2, 3, 4, 5, 6].map((n) => `clawback:${pay(user, 'A')}:${n}`),
    );
  });

  it('of one of two payments and customer balance is its share', async () => {
    await grant(user, 'one', 100, { A: 600, B: 300, balance: 100 });
    expect(await set(user, 'B', { refunded: 300 })).toMatchObject({ amount: -30 });
    expect(await set(user, 'A', { disputed: 600 })).toMatchObject({ amount: -60 });
    expect(await money()).toEqual({ balance: 10, debt: 0, remaining: 10 });
  });

  it('of a payment refunded and disputed does not reach into the share of another', async () => {
    await grant(user, 'one', 100, { A: 500, B: 500 });
    expect(await set(user, 'A', { refunded: 500, disputed: 500 })).toMatchObject({ amount: -50 });
  });

  it('takes nothing back of a grant for which nothing was paid', async () => {
    await grant(user, 'one', 50, { A: 0 });
    expect(await set(user, 'A', { refunded: 10 })).toMatchObject({
      outcome: 'applied',
      amount: null,
    });
    expect(await money()).toEqual({ balance: 50, debt: 0, remaining: 50 });
  });

  it('is exact at amounts whose product passes every integer type', async () => {
    const most = 9_007_199_254_740_991;
    await grant(user, 'one', most, { A: most });
    expect(await set(user, 'A', { refunded: most - 1 })).toMatchObject({ amount: 1 - most });
    expect(await set(user, 'A', { refunded: 1 })).toMatchObject({ amount: most - 2 });
    expect(await set(user, 'A', { refunded: 0 })).toMatchObject({ amount: 1 });
    // 10^12 less 0.00004 is cut, not rounded.
    await set(user, 'A', { refunded: most });
    await grant(user, 'two', 1_000_000_000_000, { B: most, C: most, D: most });
    await set(user, 'B', { refunded: most });
    await set(user, 'C', { refunded: most });
    await set(user, 'D', { refunded: most - 1 });
    expect(await call('get_payment_state', { p_payment: pay(user, 'D') })).toMatchObject({
      settlement: { target: 999_999_999_999, clawed: 999_999_999_999 },
    });
  });
});

describe('a reversal', () => {
  it('gives back to the lots it was taken from, and to debt first', async () => {
    await bonus(user, 'b', 5);
    await grant(user, 'one', 50, { A: 500 });
    await consume(user, 20, 'k'); // 5 of the bonus, 15 of its own
    await bonus(user, 'late', 10);
    const before = await state(user);
    await set(user, 'A', { refunded: 500 }); // 35 own, 10 late, 5 debt
    expect(await money()).toEqual({ balance: -5, debt: 5, remaining: 0 });
    await set(user, 'A', { refunded: 400 }); // 10 back: 5 debt, 5 late
    expect((await state(user)).lots.map(({ remaining }) => remaining)).toEqual([0, 0, 5]);
    await set(user, 'A', {});
    expect(await state(user)).toEqual(before);
    expect(await clawBacks(user)).toEqual([
      ['clawback', -50],
      ['clawback_reversal', 10],
      ['clawback_reversal', 40],
    ]);
  });

  it('of credits whose debt was repaid since goes to the own lots', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await consume(user, 50, 'k');
    await set(user, 'A', { disputed: 500 });
    await bonus(user, 'b', 60);
    expect(await money()).toEqual({ balance: 10, debt: 0, remaining: 10 });
    await set(user, 'A', {});
    expect((await state(user)).lots.map(({ remaining }) => remaining)).toEqual([50, 10]);
  });

  it('without room in the own lots makes a bonus lot', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await consume(user, 50, 'k');
    await set(user, 'A', { disputed: 500 });
    await bonus(user, 'b', 50);
    // As after a usage refund: the lot has what had been spent of it.
    await database.current.query(`begin; set local role purser_ledger;
      update credit_grants set remaining = 45, exhausted_at = null where user_id = '${user}' and amount = 50 and paid;
      update users set credits_balance = 45, credits_version = credits_version + 1, entry_count = entry_count + 1 where id = '${user}';
      insert into credit_transactions (user_id, entry_number, transaction_type, amount, balance_after, held_after,
        available_after, version, idempotency_key, lots, event_at, created_at)
      select u.id::text, u.entry_count, 'usage_refund', 45, 45, 0, 45, u.credits_version, 'refund:k',
        jsonb_build_array(jsonb_build_object('grant_id', g.id::text, 'amount', 45)), now(), now()
      from users u join credit_grants g on g.user_id = u.id::text and g.amount = 50 and g.paid where u.id = '${user}';
      reset role; commit`);
    await set(user, 'A', {});
    const { lots } = await state(user);
    expect(lots.map(({ remaining, paid }) => [remaining, paid])).toEqual([
      [50, true],
      [0, false],
      [45, false],
    ]);
    expect(lots[2]).toMatchObject({ amount: 45, expires_at: null });
  });

  it('of a lot that expired meanwhile is a bonus lot of 7 days', async () => {
    const expires = '2030-01-10T00:00:00Z';
    await grant(
      user,
      'one',
      50,
      { A: 500 },
      { p_lots: [{ credits: 50, expires_at: expires }], p_now: '2030-01-01T00:00:00Z' },
    );
    await set(user, 'A', { refunded: 200 }, { p_now: '2030-01-02T00:00:00Z' });
    const answer = await set(user, 'A', {}, { p_now: '2030-01-20T00:00:00Z' });
    expect(answer).toMatchObject({ amount: 20 });
    const { lots, balance } = await state(user);
    expect(balance).toBe(20);
    expect(lots.map(({ remaining }) => remaining)).toEqual([0, 20]);
    expect(lots[1]).toMatchObject({
      amount: 20,
      paid: false,
      expires_at: new Date('2030-01-27T00:00:00Z'),
    });
    const [entry] = await database.current.query<{ n: number }>(
      'select max(entry_number)::int as n from credit_transactions where user_id = $1',
      [user],
    );
    expect(lots[1]?.entry).toBe(entry?.n);
    const late = await call('get_credit_balance', {
      p_user_id: user,
      p_now: '2030-01-28T00:00:00Z',
    });
    expect(late).toMatchObject({ balance: 0 });
  });

  it('repays the debt of another payment before its own lots', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await grant(user, 'two', 30, { B: 300 });
    await set(user, 'A', { refunded: 500 });
    await consume(user, 30, 'k');
    await set(user, 'B', { disputed: 300 });
    expect(await money()).toEqual({ balance: -30, debt: 30, remaining: 0 });
    await set(user, 'A', {});
    expect(await money()).toEqual({ balance: 20, debt: 0, remaining: 20 });
    await set(user, 'B', {});
    expect(await money()).toEqual({ balance: 50, debt: 0, remaining: 50 });
  });
});

describe('a grant', () => {
  it('of a payment that was refunded before comes and goes at once', async () => {
    await set(user, 'A', { paid: 500, refunded: 500 });
    const answer = await grant(user, 'one', 50, { A: 500 });
    expect(answer).toMatchObject({
      outcome: 'applied',
      amount: 50,
      balance: 50,
      mirror: { balance: 0, available: 0, version: 2 },
    });
    expect(await grant(user, 'one', 50, { A: 500 })).toEqual({
      ...answer,
      outcome: 'replayed',
      repaid_debt: undefined,
    });
    expect(await money()).toEqual({ balance: 0, debt: 0, remaining: 0 });
    expect(await clawBacks(user)).toEqual([['clawback', -50]]);
  });

  it('that names its payment only among the sources finds the refund of before, too', async () => {
    await set(user, 'A', { paid: 500, refunded: 100 });
    await grant(user, 'one', 50, {}, { p_sources: [`payment:${pay(user, 'A')}`] });
    expect(await money()).toEqual({ balance: 40, debt: 0, remaining: 40 });
  });

  it('leaves the version as it is when a replay says nothing new', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await grant(user, 'one', 50, { A: 500 });
    await grant(user, 'one', 50, { A: 400 });
    expect(await call('get_payment_state', { p_payment: pay(user, 'A') })).toMatchObject({
      version: 1,
      paid: 500,
    });
  });

  it('replayed with further payments attaches them, and its target follows', async () => {
    await grant(user, 'one', 100, { A: 500 });
    await set(user, 'A', { refunded: 500 });
    await set(user, 'B', { paid: 300, refunded: 0 });
    expect((await state(user)).balance).toBe(0);
    const answer = await grant(user, 'one', 100, { A: 500, B: 300, balance: 200 });
    expect(answer).toMatchObject({ outcome: 'replayed', balance: 100, mirror: { balance: 50 } });
    expect(await money()).toEqual({ balance: 50, debt: 0, remaining: 50 });
    expect(await clawBacks(user)).toEqual([
      ['clawback', -100],
      ['clawback_reversal', 50],
    ]);
  });

  it('of a payment that paid for another is a conflict and a finding, and none is added', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await grant(user, 'two', 50, { B: 500 });
    expect(await grant(user, 'two', 50, { B: 500, A: 500, C: 100 })).toEqual({
      outcome: 'conflict',
      user_id: user,
    });
    const other = await world.newUser();
    expect(
      await call('grant_credits', {
        p_user_id: other,
        p_type: 'purchase',
        p_key: `checkout:cs_${other}`,
        p_lots: [{ credits: 50 }],
        p_payments: [{ payment: pay(user, 'A'), paid: 500, currency: 'usd' }],
      }),
    ).toEqual({ outcome: 'conflict', user_id: other });
    expect(await call('get_payment_state', { p_payment: pay(user, 'C') })).toMatchObject({
      outcome: 'not_found',
    });
    expect(
      await database.current.query(
        `select code from reconciliation_findings where user_id = any ($1)`,
        [[user, other]],
      ),
    ).toHaveLength(2);
  });

  it.each<[string, Json]>([
    ['no list', { payment: 'pi_1' }],
    ['no id', [{ paid: 1 }]],
    ['an id that is too short', [{ payment: 'pi', paid: 1 }]],
    ['no amount', [{ payment: 'pi_1' }]],
    ['a fraction', [{ payment: 'pi_1', paid: 1.5 }]],
    ['a text', [{ payment: 'pi_1', paid: '5' }]],
    ['a negative amount', [{ payment: 'pi_1', paid: -1 }]],
    ['a bare id', ['pi_1']],
    [
      'one twice',
      [
        { payment: 'pi_1', paid: 1 },
        { payment: 'pi_1', paid: 2 },
      ],
    ],
    ['more than 100', Array.from({ length: 101 }, (_, n) => ({ payment: `pi_${n}`, paid: 1 }))],
  ])('with payments that are %s is an error', async (_what, payments) => {
    await expect(grant(user, 'one', 50, {}, { p_payments: payments })).rejects.toMatchObject({
      code: 'PT400',
    });
  });

  it('from before this file is joined to its payment when that is first written', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await database.current.query(`begin; set local role purser_ledger;
      delete from payments where user_id = '${user}'; reset role; commit`);
    const read = await call('get_payment_state', { p_payment: pay(user, 'A') });
    expect(read).toMatchObject({ outcome: 'not_found', version: 0, settlement: { granted: 50 } });
    expect(await set(user, 'A', { paid: 500, refunded: 100 })).toMatchObject({
      outcome: 'applied',
      version: 1,
      amount: -10,
    });
  });
});

describe('a closed account', () => {
  const leave = () =>
    database.current.query(
      testUsers === 'uuid'
        ? `delete from auth.users where id = '${user}'`
        : `delete from users where id = '${user}'`,
    );
  const comeBack = () =>
    database.current.query(
      testUsers === 'uuid'
        ? `insert into auth.users (id, email) values ('${user}', 'again@example.com');
           insert into users (id, email) values ('${user}', 'again@example.com')`
        : `insert into users (id, email) values ('${user}', 'again@example.com')`,
    );

  it('gets no entry until it returns, and then what followed meanwhile', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await grant(user, 'two', 30, { B: 300 });
    await consume(user, 20, 'k');
    await leave();
    expect(await set(user, 'A', { refunded: 100 })).toMatchObject({
      outcome: 'applied',
      version: 2,
      user_id: user,
      transaction_id: null,
      mirror: null,
    });
    await set(user, 'A', { refunded: 500 });
    await set(user, 'B', { disputed: 300 });
    expect(await clawBacks(user)).toEqual([]);
    expect(await drift()).toEqual([]);
    await comeBack();
    expect(await clawBacks(user)).toEqual([
      ['clawback', -50],
      ['clawback', -30],
    ]);
    expect(await money()).toEqual({ balance: -20, debt: 20, remaining: 0 });
    await leave();
    await set(user, 'B', {});
    await comeBack();
    expect(await money()).toEqual({ balance: 10, debt: 0, remaining: 10 });
  });

  it('keeps the payments of a replay for its return', async () => {
    await grant(user, 'one', 50, { A: 500 });
    await set(user, 'B', { paid: 500, refunded: 500 });
    await leave();
    expect(await grant(user, 'one', 50, { A: 500, B: 500 })).toMatchObject({ outcome: 'replayed' });
    expect(await clawBacks(user)).toEqual([]);
    await comeBack();
    expect(await money()).toEqual({ balance: 25, debt: 0, remaining: 25 });
  });

  it('that returns while its payment is written misses nothing, in either order', async () => {
    for (let round = 0; round < 12; round += 1) {
      user = await world.newUser();
      await grant(user, 'one', 50, { A: 500 });
      await leave();
      const write = async () => {
        // A stale answer is read again, as a handler does.
        while ((await set(user, 'A', { refunded: 500 })).outcome === 'stale') {}
      };
      await Promise.all(round % 2 === 0 ? [write(), comeBack()] : [comeBack(), write()]);
      expect(await clawBacks(user)).toEqual([['clawback', -50]]);
    }
  });
});

describe('an effect of an event', () => {
  const apply = (effects: Json[]) =>
    call('apply_webhook_effects', { p_event_id: null, p_fence: null, p_effects: effects });
  const stateEffect = (version: number, refunded: number) => ({
    kind: 'payment_state',
    payment: pay(user, 'A'),
    version,
    paid: 500,
    refunded,
    disputed: 0,
  });

  it('writes the state of a payment, and the grant names its payments', async () => {
    await apply([
      {
        kind: 'grant',
        user_id: user,
        type: 'purchase',
        key: `checkout:cs_${user}`,
        sources: [`checkout:cs_${user}`],
        payments: [{ payment: pay(user, 'A'), paid: 500, currency: 'usd' }],
        lots: [{ credits: 50 }],
      },
    ]);
    const applied = await apply([stateEffect(1, 100)]);
    expect(applied).toMatchObject({
      outcome: 'applied',
      results: [
        { kind: 'payment_state', outcome: 'applied', amount: -10, mirror: { balance: 40 } },
      ],
    });
  });

  it('that read the payment too early writes nothing at all, and keeps its lease', async () => {
    await set(user, 'A', { paid: 500 });
    await call('receive_webhook_event', {
      p_event_id: `evt_${user}`,
      p_event_type: 'charge.refunded',
      p_object_id: `ch_${user}`,
      p_order_key: pay(user, 'A'),
      p_event_created_at: '2026-01-01T00:00:00Z',
      p_payload: {},
    });
    const attempt = (version: number) =>
      call('apply_webhook_effects', {
        p_event_id: `evt_${user}`,
        p_fence: 1,
        p_effects: [
          stateEffect(version, 100),
          { kind: 'finding', code: 'x', subject: `s_${user}` },
        ],
      });
    expect(await attempt(0)).toMatchObject({ outcome: 'read_again', results: [] });
    expect(
      await database.current.query(
        `select status, (select count(*)::int from reconciliation_findings f where f.subject = 's_' || $2) as findings
         from stripe_webhook_events where stripe_event_id = $1`,
        [`evt_${user}`, user],
      ),
    ).toEqual([{ status: 'leased', findings: 0 }]);
    expect(await attempt(1)).toMatchObject({ outcome: 'applied' });
  });

  it('stands first', async () => {
    await expect(
      apply([{ kind: 'finding', code: 'x', subject: 'y' }, stateEffect(0, 0)]),
    ).rejects.toMatchObject({ code: 'PT400' });
  });
});

it('an upgrade leaves one grant_credits, the one that knows payments', async () => {
  await database.current.query(`create function public.grant_credits(
      p_user_id text, p_type text, p_key text, p_lots jsonb, p_sources jsonb default '[]',
      p_description text default null, p_metadata jsonb default '{}', p_stripe_session_id text default null,
      p_stripe_payment_intent_id text default null, p_stripe_invoice_id text default null,
      p_event_at timestamptz default null, p_now timestamptz default null)
    returns jsonb language sql as 'select null::jsonb';
    alter function public.grant_credits(
      text, text, text, jsonb, jsonb, text, jsonb, text, text, text, timestamptz, timestamptz) owner to purser_ledger`);
  for (const { name, sql } of migrationFilesOfFolder()) {
    if (/^(credit_transactions|payments)_/.test(name)) await database.current.query(sql);
  }
  await grant(user, 'one', 50, { A: 500 });
  expect(await set(user, 'A', { refunded: 100 })).toMatchObject({ amount: -10 });
});

it('a payment is read by its own user alone', async () => {
  await grant(user, 'one', 50, { A: 500 });
  const seen = (sub: string) =>
    database.current.asRole('authenticated', { sub }, async (client) =>
      (await client.query('select payment from payments')).rows.map(({ payment }) => payment),
    );
  expect(await seen(user)).toEqual([pay(user, 'A')]);
  expect(await seen(userId('somebody-else'))).toEqual([]);
});
