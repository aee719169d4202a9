import { describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { at, holdWorld } from '../support/holdWorld.ts';
import type { Answer } from '../support/sqlCall.ts';

const world = holdWorld();
const {
  balance,
  buy,
  call,
  capture,
  consume,
  details,
  extend,
  grant,
  hold,
  release,
  suspend,
  takeBack,
} = world;

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
    const { data } = await call('list_credit_transactions', { p_user_id: world.user });
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
    const { data } = await call('list_credit_transactions', {
      p_user_id: world.user,
      p_type: 'usage',
    });
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

  it('of a hold made while suspended spends no plan credits', async () => {
    await grant(20, { from_plan: true, priority: 1 });
    await grant(5);
    await suspend();
    const { hold_id } = await hold(5);
    expect(await capture(hold_id, 'a', 3)).toMatchObject({ outcome: 'applied', balance: 22 });
    expect(await capture(hold_id, 'b')).toMatchObject({ balance: 20, held: 0, available: 0 });
    expect(await hold(1, 'more')).toMatchObject({ outcome: 'suspended' });
    const plan = `select sum(remaining)::int as n from credit_grants where user_id = $1 and from_plan`;
    expect(await world.database.query(plan, [world.user])).toEqual([{ n: 20 }]);
  });

  it('is refused when a refund took what was held, and can be sent again', async () => {
    await buy(30);
    const { hold_id } = await hold(20);
    await takeBack({ refunded: 18 });
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
    await takeBack({ refunded: 21 });
    expect(await balance()).toMatchObject({ balance: -3, debt: 3, held: 8, available: -11 });
    expect(await capture(hold_id, 'c', 1)).toMatchObject({ outcome: 'insufficient_credits' });
    await grant(11);
    expect(await capture(hold_id, 'a')).toMatchObject({ outcome: 'applied', balance: 0, held: 0 });
  });

  it('waits for a dispute to be won', async () => {
    await buy(30);
    const { hold_id } = await hold(20);
    await takeBack({ disputed: 30 });
    expect(await capture(hold_id, 'a')).toMatchObject({
      outcome: 'insufficient_credits',
      balance: 0,
      held: 20,
    });
    await takeBack({ disputed: 0 });
    expect(await capture(hold_id, 'a')).toMatchObject({ outcome: 'applied', balance: 10, held: 0 });
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
