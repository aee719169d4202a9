import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, testUsers, userId } from '../support/postgres.ts';
import { type Answer, callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let count = 0;
let user = '';
beforeEach(async () => {
  count += 1;
  user = userId(`holder-${count}`);
  await call('ensure_user', { p_user_id: user });
});

/** Drift of any kind, and holds that do not add up to what the accounts say is held. */
afterEach(async () => {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
  expect(
    await database.current.query(`
      with accounts as (
        select id::text as user_id, credits_held from users
        union all select user_id, credits_held from closed_accounts)
      select a.user_id, a.credits_held, h.held from accounts a
      left join (select user_id, sum(amount - captured) as held from credit_holds
                 where status = 'open' group by user_id) h using (user_id)
      where a.credits_held <> coalesce(h.held, 0)`),
  ).toEqual([]);
});

const NOON = '2030-01-01T12:00:00.000Z';
/** Noon and so many seconds. */
const at = (seconds: number) => new Date(Date.parse(NOON) + seconds * 1000).toISOString();

let gifts = 0;
function grant(credits: number, lot: Record<string, Json> = {}): Promise<Answer> {
  gifts += 1;
  return call('grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: `grant:${gifts}`,
    p_lots: [{ credits, ...lot }],
    p_now: at(0),
  });
}
const hold = (amount: number, key = 'k', fields: Record<string, Json> = {}) =>
  call('hold_credits', {
    p_user_id: user,
    p_amount: amount,
    p_key: key,
    p_now: at(0),
    ...fields,
  });
const capture = (holdId: string, key: string, amount?: number, fields: Record<string, Json> = {}) =>
  call('capture_hold', {
    p_hold_id: holdId,
    p_key: key,
    p_amount: amount,
    p_now: at(1),
    ...fields,
  });
const release = (holdId: string, now = at(1)) =>
  call('release_hold', { p_hold_id: holdId, p_now: now });
const extend = (holdId: string, seconds: number, now = at(1)) =>
  call('extend_hold', { p_hold_id: holdId, p_expires_in_seconds: seconds, p_now: now });
const balance = (now = at(1)) => call('get_credit_balance', { p_user_id: user, p_now: now });
const consume = (amount: number, key: string, now = at(1)) =>
  call('consume_credits', { p_user_id: user, p_amount: amount, p_key: key, p_now: now });
const details = (holdId: string, now = at(1)) =>
  call('get_hold', { p_hold_id: holdId, p_now: now });

/** As a claw-back and a suspension leave the account; the functions for them are not in this file. */
async function asLedger(sql: string): Promise<void> {
  await database.current.query(`begin; set local role purser_ledger; ${sql}; commit`);
}
const suspend = () =>
  asLedger(`update users set credits_suspended = true, credits_version = credits_version + 1
            where id = '${user}'`);
const clawBack = (amount: number) =>
  asLedger(`do $do$
    declare
      v_user purser.accounts := purser.lock_user('${user}');
      v_lots jsonb := purser.take_up_to(v_user, ${amount}, '${at(0)}');
    begin
      v_user.credits_debt := v_user.credits_debt + ${amount} - purser.lots_total(v_lots);
      perform purser.append_entry(v_user, 'clawback', -${amount}, 'clawback:pi_test:' || v_user.entry_count, '${at(0)}', v_lots);
    end $do$`);

describe('a hold', () => {
  it('reserves without spending, and is answered in the shape of the contract', async () => {
    await grant(50);
    const { hold_id, mirror, ...answer } = await hold(20);
    expect(hold_id).toMatch(/^h_[1-9]\d*$/);
    expect(answer).toEqual({
      outcome: 'applied',
      user_id: user,
      status: 'open',
      amount: 20,
      captured: 0,
      released: 0,
      remaining: 20,
      expires_at: at(600),
      transaction_id: null,
      balance: 50,
      held: 20,
      available: 30,
      version: 2,
    });
    expect(mirror).toMatchObject({
      balance: 50,
      held: 20,
      available: 30,
      version: 2,
      valid_until: Date.parse(at(600)),
    });
    expect(await consume(31, 'c')).toMatchObject({
      outcome: 'insufficient_credits',
      available: 30,
    });
    expect(await consume(30, 'c')).toMatchObject({
      outcome: 'applied',
      balance: 20,
      held: 20,
      available: 0,
    });
  });

  it('follows the outcomes of the table, line by line', async () => {
    await grant(50);
    type Step = [number, string, Record<string, Json>, Record<string, unknown>];
    const first = {
      status: 'open',
      amount: 20,
      captured: 0,
      remaining: 20,
      balance: 50,
      held: 20,
      available: 30,
      version: 2,
      expires_at: at(600),
    };
    const steps: Step[] = [
      [51, 'a', {}, { outcome: 'insufficient_credits', balance: 50, available: 50, version: 1 }],
      [20, 'a', {}, { outcome: 'applied', ...first }],
      [20, 'a', {}, { outcome: 'replayed', ...first }],
      // What may differ on a replay, one by one: only the amount counts.
      [20, 'a', { p_expires_in_seconds: 60 }, { outcome: 'replayed', ...first }],
      [20, 'a', { p_description: 'other' }, { outcome: 'replayed', ...first }],
      [20, 'a', { p_metadata: { other: true } }, { outcome: 'replayed', ...first }],
      [20, 'a', { p_now: at(300) }, { outcome: 'replayed', ...first }],
      [21, 'a', {}, { outcome: 'conflict', held: 20 }],
      [31, 'b', {}, { outcome: 'insufficient_credits', available: 30, held: 20, version: 2 }],
      [30, 'b', {}, { outcome: 'applied', held: 50, available: 0, version: 3 }],
      [31, 'b', {}, { outcome: 'conflict' }],
      [1, 'c', {}, { outcome: 'insufficient_credits', available: 0 }],
      [20, 'a', {}, { outcome: 'replayed', ...first }],
    ];
    for (const [amount, key, fields, expected] of steps) {
      expect(await hold(amount, key, fields)).toMatchObject(expected);
    }
    expect(await call('list_credit_transactions', { p_user_id: user })).toMatchObject({
      data: [expect.objectContaining({ transaction_type: 'bonus' })],
    });
  });

  it('replays its first answer whatever has become of it', async () => {
    await grant(50);
    const { mirror: _first, ...first } = await hold(20);
    const again = async () => {
      const { mirror: _now, ...answer } = await hold(20);
      expect(answer).toEqual({ ...first, outcome: 'replayed' });
    };
    await extend(first.hold_id, 3600);
    await again();
    await capture(first.hold_id, 'part', 5);
    await again();
    await release(first.hold_id);
    await again();
  });

  it('may use a key that a spend has used, and the other way round', async () => {
    await grant(50);
    await consume(1, 'same');
    expect(await hold(2, 'same')).toMatchObject({ outcome: 'applied' });
    expect(await consume(1, 'same')).toMatchObject({ outcome: 'replayed' });
  });

  it('has a key per user', async () => {
    await grant(50);
    await hold(20);
    user = userId('holder-other');
    await call('ensure_user', { p_user_id: user });
    await grant(50);
    expect(await hold(7)).toMatchObject({ outcome: 'applied', held: 7 });
  });

  it('leaves plan lots alone while suspended, as spending does, and says so', async () => {
    await grant(20, { from_plan: true });
    await grant(5);
    await suspend();
    expect(await hold(6)).toMatchObject({ outcome: 'suspended', available: 5, balance: 25 });
    expect(await hold(26)).toMatchObject({ outcome: 'insufficient_credits' });
    expect(await hold(5)).toMatchObject({ outcome: 'applied', available: 0, held: 5 });
  });

  it('of an unknown user is not_found', async () => {
    const nobody = userId('nobody');
    expect(await call('hold_credits', { p_user_id: nobody, p_amount: 1, p_key: 'k' })).toEqual({
      outcome: 'not_found',
      user_id: nobody,
    });
    expect(await call('list_open_holds', { p_user_id: nobody })).toMatchObject({
      outcome: 'not_found',
    });
  });

  it.each<[string, number, string, Record<string, Json | null>]>([
    ['nothing', 0, 'k', {}],
    ['less than nothing', -5, 'k', {}],
    ['more than 2^53 - 1', 9_007_199_254_740_992, 'k', {}],
    ['no key', 5, '', {}],
    ['a key of 256 bytes', 5, 'k'.repeat(256), {}],
    ['no time', 5, 'k', { p_expires_in_seconds: 0 }],
    ['more than 30 days', 5, 'k', { p_expires_in_seconds: 2_592_001 }],
    ['null for its time', 5, 'k', { p_expires_in_seconds: null }],
    ['a list for metadata', 5, 'k', { p_metadata: [1] }],
  ])('of or with %s is a broken contract', async (_what, amount, key, fields) => {
    await grant(50);
    await expect(hold(amount, key, fields)).rejects.toMatchObject({ code: 'PT400' });
    expect(await balance()).toMatchObject({ held: 0, version: 1 });
  });

  it('may last a second or 30 days', async () => {
    await grant(50);
    expect(await hold(1, 'short', { p_expires_in_seconds: 1 })).toMatchObject({
      expires_at: at(1),
    });
    expect(await hold(1, 'long', { p_expires_in_seconds: 2_592_000 })).toMatchObject({
      expires_at: at(2_592_000),
    });
  });
});

describe('a capture', () => {
  it('follows the outcomes of the table, line by line', async () => {
    await grant(50);
    const { hold_id } = await hold(20, 'k', { p_expires_in_seconds: 3600 });
    const five = {
      status: 'open',
      captured: 5,
      released: 0,
      remaining: 15,
      balance: 45,
      held: 15,
      available: 30,
      version: 3,
    };
    const rest = {
      status: 'captured',
      captured: 20,
      released: 0,
      remaining: 0,
      balance: 30,
      held: 0,
      available: 30,
    };
    type Step = [string, number | undefined, Record<string, Json>, Record<string, unknown>];
    const steps: Step[] = [
      ['a', 21, {}, { outcome: 'hold_exceeded', remaining: 20, held: 20, version: 2 }],
      ['a', 5, {}, { outcome: 'applied', ...five }],
      ['a', 5, {}, { outcome: 'replayed', ...five }],
      // What may differ on a replay, one by one: only the amount counts.
      ['a', 5, { p_description: 'other' }, { outcome: 'replayed', ...five }],
      ['a', 5, { p_metadata: { other: true } }, { outcome: 'replayed', ...five }],
      ['a', 5, { p_now: at(300) }, { outcome: 'replayed', ...five }],
      ['a', 6, {}, { outcome: 'conflict', captured: 5 }],
      // Without an amount it asks for the rest, which that capture was not.
      ['a', undefined, {}, { outcome: 'conflict', captured: 5 }],
      ['b', 16, {}, { outcome: 'hold_exceeded', remaining: 15 }],
      ['b', undefined, {}, { outcome: 'applied', ...rest, version: 4 }],
      ['b', undefined, {}, { outcome: 'replayed', ...rest, version: 4 }],
      ['b', 15, {}, { outcome: 'replayed', ...rest, version: 4 }],
      ['b', 14, {}, { outcome: 'conflict' }],
      ['a', 5, {}, { outcome: 'replayed', ...five }],
      ['c', 1, {}, { outcome: 'hold_ended', ...rest, version: 4 }],
      ['c', undefined, {}, { outcome: 'hold_ended' }],
      // The hold's time passes: the answers to its keys stay.
      ['a', 5, { p_now: at(7200) }, { outcome: 'replayed', ...five }],
      ['b', undefined, { p_now: at(7200) }, { outcome: 'replayed', ...rest }],
    ];
    for (const [key, amount, fields, expected] of steps) {
      expect(await capture(hold_id, key, amount, fields)).toMatchObject(expected);
    }
    const { data } = await call('list_credit_transactions', { p_user_id: user });
    expect(data.map((entry: Answer) => [entry.idempotency_key, entry.amount])).toEqual([
      [`capture:${hold_id}:b`, -15],
      [`capture:${hold_id}:a`, -5],
      [expect.stringMatching(/^grant:/), 50],
    ]);
  });

  it('replays the same body, transaction and all', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    const { mirror: _a, ...first } = await capture(hold_id, 'a', 5);
    await extend(hold_id, 3600);
    await capture(hold_id, 'b', 3);
    await release(hold_id);
    await consume(1, 'c');
    const { mirror: _b, ...second } = await capture(hold_id, 'a', 5);
    expect(second).toEqual({ ...first, outcome: 'replayed' });
  });

  it('carries what the hold said into the history, and where it comes from', async () => {
    await grant(50);
    const { hold_id } = await hold(20, 'k', {
      p_description: 'A long render',
      p_metadata: { job: 'j1', hold_id: 'forged' },
    });
    await capture(hold_id, 'a', 5);
    await capture(hold_id, 'b', 6, { p_description: 'Second', p_metadata: { frame: 2 } });
    const { data } = await call('list_credit_transactions', { p_user_id: user, p_type: 'usage' });
    expect(data).toMatchObject([
      { description: 'Second', metadata: { frame: 2, hold_id, hold: { captured: 11 } } },
      { description: 'A long render', metadata: { job: 'j1', hold_id, hold: { captured: 5 } } },
    ]);
    expect(data[0].metadata).not.toHaveProperty('job');
  });

  it('of one key on two holds is two captures', async () => {
    await grant(50);
    const [one, two] = [await hold(10, 'one'), await hold(10, 'two')];
    expect(await capture(one.hold_id, 'same')).toMatchObject({ outcome: 'applied', balance: 40 });
    expect(await capture(two.hold_id, 'same')).toMatchObject({ outcome: 'applied', balance: 30 });
  });

  it('of an open hold spends what was promised though the account was suspended since', async () => {
    await grant(20, { from_plan: true });
    const { hold_id } = await hold(15);
    await suspend();
    expect(await hold(1, 'new')).toMatchObject({ outcome: 'suspended' });
    expect(await capture(hold_id, 'a', 10)).toMatchObject({
      outcome: 'applied',
      balance: 10,
      held: 5,
    });
    // Released, the rest is plan credits of a suspended account again.
    expect(await release(hold_id)).toMatchObject({ balance: 10, held: 0, available: 0 });
  });

  it('is refused when a claw-back took what was held, and can be sent again', async () => {
    await grant(30);
    const { hold_id } = await hold(20);
    await clawBack(18);
    const refused = await capture(hold_id, 'a');
    expect(refused).toMatchObject({
      outcome: 'insufficient_credits',
      status: 'open',
      remaining: 20,
      balance: 12,
      held: 20,
      available: -8,
      mirror: { available: -8 },
    });
    expect(await capture(hold_id, 'b', 12)).toMatchObject({ outcome: 'applied', balance: 0 });
    await clawBack(3);
    expect(await balance()).toMatchObject({ balance: -3, debt: 3, held: 8, available: -11 });
    expect(await capture(hold_id, 'c', 1)).toMatchObject({ outcome: 'insufficient_credits' });
    await grant(11);
    expect(await capture(hold_id, 'a')).toMatchObject({ outcome: 'applied', balance: 0, held: 0 });
  });

  it('of a hold that is not there is not_found', async () => {
    for (const id of ['h_999999999999999', 'h_0', 'h_01', '1', 'h_', 'h_1; drop', 'H_1', '']) {
      const nothing = { outcome: 'not_found', hold_id: id };
      expect(await capture(id, 'a')).toEqual(nothing);
      expect(await release(id)).toEqual(nothing);
      expect(await extend(id, 60)).toEqual(nothing);
      expect(await details(id)).toEqual(nothing);
    }
  });

  it.each<[string, string, Json, Record<string, Json>]>([
    ['nothing', 'k', 0, {}],
    ['less than nothing', 'k', -5, {}],
    ['no key', '', 5, {}],
    ['a text for metadata', 'k', 5, { p_metadata: '"x"' }],
  ])('of or with %s is a broken contract', async (_what, key, amount, fields) => {
    await grant(50);
    const { hold_id } = await hold(20);
    await expect(capture(hold_id, key, amount as number, fields)).rejects.toMatchObject({
      code: 'PT400',
    });
  });
});

describe('a late capture', () => {
  it('spends what was not captured, if it can be had, and ends with it', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    await capture(hold_id, 'a', 5);
    const late = { p_now: at(601) };
    expect(await details(hold_id, at(601))).toMatchObject({
      status: 'expired',
      captured: 5,
      released: 15,
      remaining: 0,
    });
    expect(await capture(hold_id, 'b', 16, late)).toMatchObject({ outcome: 'hold_exceeded' });
    expect(await capture(hold_id, 'b', 10, late)).toMatchObject({
      outcome: 'applied',
      status: 'expired',
      captured: 15,
      released: 5,
      remaining: 0,
      balance: 35,
      held: 0,
      available: 35,
    });
    expect(await capture(hold_id, 'c', undefined, late)).toMatchObject({
      outcome: 'applied',
      status: 'captured',
      captured: 20,
      released: 0,
      balance: 30,
    });
    expect(await capture(hold_id, 'd', 1, late)).toMatchObject({ outcome: 'hold_ended' });
    expect(await capture(hold_id, 'b', 10, late)).toMatchObject({
      outcome: 'replayed',
      status: 'expired',
      captured: 15,
    });
    expect(await capture(hold_id, 'c', undefined, late)).toMatchObject({ outcome: 'replayed' });
  });

  it('is refused when the credits are spent, and the key stays free', async () => {
    await grant(20);
    const { hold_id } = await hold(20);
    await consume(15, 'c', at(601));
    const late = { p_now: at(602) };
    expect(await capture(hold_id, 'a', undefined, late)).toMatchObject({
      outcome: 'insufficient_credits',
      status: 'expired',
      balance: 5,
      available: 5,
    });
    await grant(15);
    expect(await capture(hold_id, 'a', undefined, late)).toMatchObject({
      outcome: 'applied',
      status: 'captured',
      balance: 0,
    });
  });

  it('takes nothing that another hold reserves', async () => {
    await grant(20);
    const { hold_id } = await hold(20);
    await hold(15, 'other', { p_now: at(601) });
    const late = { p_now: at(602) };
    expect(await capture(hold_id, 'a', 6, late)).toMatchObject({
      outcome: 'insufficient_credits',
      held: 15,
      available: 5,
    });
    expect(await capture(hold_id, 'a', 5, late)).toMatchObject({
      outcome: 'applied',
      balance: 15,
      held: 15,
      available: 0,
    });
  });

  it('of a suspended account is judged like any spend', async () => {
    await grant(20, { from_plan: true });
    const { hold_id } = await hold(15);
    await suspend();
    expect(await capture(hold_id, 'a', 10, { p_now: at(601) })).toMatchObject({
      outcome: 'suspended',
      balance: 20,
      available: 0,
    });
  });
});

describe('a release', () => {
  it('gives the rest back, keeps what was captured, and may be repeated', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    await capture(hold_id, 'a', 5);
    const released = {
      status: 'released',
      captured: 5,
      released: 15,
      remaining: 0,
      balance: 45,
      held: 0,
      available: 45,
      version: 4,
    };
    expect(await release(hold_id)).toMatchObject({ outcome: 'applied', ...released });
    expect(await release(hold_id)).toMatchObject({ outcome: 'unchanged', ...released });
    expect(await capture(hold_id, 'b', 1)).toMatchObject({ outcome: 'hold_ended', ...released });
    expect(await capture(hold_id, 'a', 5)).toMatchObject({ outcome: 'replayed', captured: 5 });
    expect(await extend(hold_id, 60)).toMatchObject({ outcome: 'hold_ended', ...released });
  });

  it('of a hold that ended otherwise answers it as it is', async () => {
    await grant(50);
    const captured = await hold(20, 'one');
    await capture(captured.hold_id, 'a');
    expect(await release(captured.hold_id)).toMatchObject({
      outcome: 'unchanged',
      status: 'captured',
      released: 0,
    });
    const expired = await hold(20, 'two');
    expect(await release(expired.hold_id, at(601))).toMatchObject({
      outcome: 'unchanged',
      status: 'expired',
      released: 20,
      held: 0,
    });
  });
});

describe('an extension', () => {
  it('counts from now, and never shortens', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    expect(await extend(hold_id, 60)).toMatchObject({
      outcome: 'unchanged',
      expires_at: at(600),
      version: 2,
    });
    const later = await extend(hold_id, 600, at(300));
    expect(later).toMatchObject({
      outcome: 'applied',
      expires_at: at(900),
      held: 20,
      version: 3,
      mirror: { valid_until: Date.parse(at(900)), version: 3 },
    });
    expect(await extend(hold_id, 600, at(300))).toMatchObject({ outcome: 'unchanged', version: 3 });
    expect(await capture(hold_id, 'a', undefined, { p_now: at(800) })).toMatchObject({
      outcome: 'applied',
    });
    expect(await extend(hold_id, 600, at(800))).toMatchObject({
      outcome: 'hold_ended',
      status: 'captured',
    });
  });

  it('comes too late once the time has come', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    expect(await extend(hold_id, 600, at(600))).toMatchObject({
      outcome: 'hold_ended',
      status: 'expired',
      held: 0,
    });
  });

  it.each([0, -1, 2_592_001, null])('by %p seconds is a broken contract', async (seconds) => {
    await grant(50);
    const { hold_id } = await hold(20);
    await expect(extend(hold_id, seconds as number)).rejects.toMatchObject({ code: 'PT400' });
  });
});

describe('a hold whose time has come', () => {
  const enders: [string, () => Promise<unknown>][] = [
    ['a balance', () => balance(at(600))],
    ['a spend', () => consume(1, 'c', at(600))],
    ['a refused spend', () => consume(1000, 'c', at(600))],
    ['another hold', () => hold(1, 'next', { p_now: at(600) })],
    ['a look at it', () => call('get_hold', { p_hold_id: held, p_now: at(600) })],
    ['the list of holds', () => call('list_open_holds', { p_user_id: user, p_now: at(600) })],
    ['a release', () => release(held, at(600))],
    [
      'a grant',
      () =>
        call('grant_credits', {
          p_user_id: user,
          p_type: 'bonus',
          p_key: 'grant:late',
          p_lots: [{ credits: 1 }],
          p_now: at(600),
        }),
    ],
    ['the job', () => call('expire_due_credits', { p_now: at(600) })],
  ];
  let held = '';

  it.each(enders)('is ended by %s', async (_what, work) => {
    await grant(50);
    held = (await hold(20)).hold_id;
    expect(await balance(at(599))).toMatchObject({ held: 20 });
    await work();
    const [row] = await database.current.query(
      `select status, (select credits_held::int from users where id = '${user}') as held
       from credit_holds where id = $1`,
      [held.slice(2)],
    );
    expect(row).toMatchObject({ status: 'expired' });
    expect((await balance(at(600))).available).toBeGreaterThanOrEqual(49);
  });

  it('is not in a balance, nor in its mirror, and both say when that will be', async () => {
    await grant(50);
    await hold(20);
    await hold(5, 'longer', { p_expires_in_seconds: 1200 });
    const valid = (seconds: number) => Date.parse(at(seconds));
    expect((await balance(at(599))).mirror).toMatchObject({ held: 25, valid_until: valid(600) });
    expect((await balance(at(600))).mirror).toMatchObject({
      held: 5,
      available: 45,
      version: 4,
      valid_until: valid(1200),
    });
    expect((await balance(at(1200))).mirror).toMatchObject({ held: 0, valid_until: null });
  });
});

describe('expiring credits under a hold', () => {
  const held30 = async () => {
    await grant(30, { expires_at: at(100) });
    await grant(10);
    return (await hold(25)).hold_id as string;
  };

  it('stay while the hold needs them, and go as soon as it does not', async () => {
    const hold_id = await held30();
    // 40 credits, 25 held: of the 30 that are due 15 can go.
    expect(await balance(at(101))).toMatchObject({
      balance: 25,
      held: 25,
      available: 0,
      // Nothing changes by itself before the hold ends, so copies are good until then.
      mirror: { valid_until: Date.parse(at(600)) },
    });
    expect(await release(hold_id, at(102))).toMatchObject({
      outcome: 'applied',
      balance: 10,
      held: 0,
      available: 10,
    });
    const { data } = await call('list_credit_transactions', {
      p_user_id: user,
      p_type: 'expiration',
    });
    expect(data.map(({ amount }: Answer) => amount)).toEqual([-15, -15]);
  });

  it('can be captured after their time, and what is left of them goes with the release', async () => {
    const hold_id = await held30();
    await balance(at(101));
    expect(await capture(hold_id, 'a', 12, { p_now: at(102) })).toMatchObject({
      outcome: 'applied',
      balance: 13,
      held: 13,
      available: 0,
    });
    expect(await release(hold_id, at(103))).toMatchObject({ balance: 10, held: 0, available: 10 });
  });

  it('go with the hold when it expires itself, also through the job', async () => {
    await held30();
    await balance(at(101));
    await call('expire_due_credits', { p_now: at(600) });
    const [row] = await database.current.query(
      `select credits_balance::int as balance, credits_held::int as held from users where id = '${user}'`,
    );
    expect(row).toEqual({ balance: 10, held: 0 });
  });

  it('cannot be held once their time has come', async () => {
    await grant(30, { expires_at: at(100) });
    expect(await hold(20, 'k', { p_now: at(100) })).toMatchObject({
      outcome: 'insufficient_credits',
      balance: 0,
    });
  });
});

describe('looking at holds', () => {
  it('shows one with what was said about it', async () => {
    await grant(50);
    const { hold_id } = await hold(20, 'k', { p_description: 'Render', p_metadata: { job: 1 } });
    expect(await details(hold_id)).toEqual({
      outcome: 'found',
      hold_id,
      user_id: user,
      status: 'open',
      amount: 20,
      captured: 0,
      released: 0,
      remaining: 20,
      expires_at: at(600),
      description: 'Render',
      metadata: { job: 1 },
      created_at: at(0),
      mirror: null,
    });
  });

  it('lists the open ones, oldest first, in pages that meet without gap', async () => {
    await grant(50);
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) ids.push((await hold(1, `k${n}`)).hold_id);
    await release(ids[1] ?? '');
    const list = (limit: number, after?: string) =>
      call('list_open_holds', { p_user_id: user, p_limit: limit, p_after: after, p_now: at(1) });
    const first = await list(3);
    expect(first.data.map(({ hold_id }: Answer) => hold_id)).toEqual([ids[0], ids[2], ids[3]]);
    expect(first).toMatchObject({ outcome: 'found', has_more: true });
    const second = await list(3, first.next_after);
    expect(second.data.map(({ hold_id }: Answer) => hold_id)).toEqual([ids[4]]);
    expect(second).toMatchObject({ has_more: false, next_after: null });
    expect(await list(4)).toMatchObject({ has_more: false, next_after: null });
  });

  it('finds none where there are none', async () => {
    expect(await call('list_open_holds', { p_user_id: user })).toEqual({
      outcome: 'found',
      data: [],
      has_more: false,
      next_after: null,
      mirror: expect.objectContaining({ held: 0 }),
    });
  });
});

describe('a closed account', () => {
  const deletion = () =>
    database.current.query(
      testUsers === 'uuid'
        ? `delete from auth.users where id = '${user}'`
        : `delete from users where id = '${user}'`,
    );
  const comeback = () =>
    database.current.query(
      testUsers === 'uuid'
        ? `insert into auth.users (id, email) values ('${user}', 'again-${count}@example.com');
           insert into users (id, email) values ('${user}', 'again-${count}@example.com')`
        : `insert into users (id, email) values ('${user}', 'again-${count}@example.com')`,
    );

  it('keeps its holds as they were, and nothing can be done with them', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    await deletion();
    const gone = { outcome: 'not_found', hold_id, user_id: user };
    expect(await capture(hold_id, 'a')).toEqual(gone);
    expect(await release(hold_id)).toEqual(gone);
    expect(await extend(hold_id, 60)).toEqual(gone);
    expect(await details(hold_id, at(601))).toMatchObject({ status: 'open', remaining: 20 });
    expect(await call('expire_due_credits', { p_now: at(601) })).toMatchObject({ more: false });
    const [closed] = await database.current.query(
      'select credits_held::int as held from closed_accounts where user_id = $1',
      [user],
    );
    expect(closed).toEqual({ held: 20 });
  });

  it('finds them again when it returns in time, and their credits when it does not', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    await deletion();
    await comeback();
    expect(await balance()).toMatchObject({ balance: 50, held: 20, available: 30 });
    expect(await capture(hold_id, 'a', 5)).toMatchObject({ outcome: 'applied', held: 15 });
    await deletion();
    await comeback();
    expect(await balance(at(601))).toMatchObject({ balance: 45, held: 0, available: 45 });
    expect(await capture(hold_id, 'a', 5, { p_now: at(601) })).toMatchObject({
      outcome: 'replayed',
    });
    expect(await hold(20)).toMatchObject({ outcome: 'replayed', status: 'open' });
  });
});
