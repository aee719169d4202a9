import { describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { at, holdWorld } from '../support/holdWorld.ts';
import { userId } from '../support/postgres.ts';
import type { Answer } from '../support/sqlCall.ts';

const world = holdWorld();
const { balance, call, capture, consume, details, extend, grant, hold, release, suspend } = world;

describe('a hold', () => {
  it('reserves without spending, and is answered in the shape of the contract', async () => {
    await grant(50);
    const { hold_id, mirror, ...answer } = await hold(20);
    expect(hold_id).toMatch(/^h_[1-9]\d*$/);
    expect(answer).toEqual({
      outcome: 'applied',
      user_id: world.user,
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
    expect(await call('list_credit_transactions', { p_user_id: world.user })).toMatchObject({
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
    await world.becomeOther();
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

describe('looking at holds', () => {
  it('shows one with what was said about it', async () => {
    await grant(50);
    const { hold_id } = await hold(20, 'k', { p_description: 'Render', p_metadata: { job: 1 } });
    expect(await details(hold_id)).toEqual({
      outcome: 'found',
      hold_id,
      user_id: world.user,
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
      call('list_open_holds', {
        p_user_id: world.user,
        p_limit: limit,
        p_after: after,
        p_now: at(1),
      });
    const first = await list(3);
    expect(first.data.map(({ hold_id }: Answer) => hold_id)).toEqual([ids[0], ids[2], ids[3]]);
    expect(first).toMatchObject({ outcome: 'found', has_more: true });
    const second = await list(3, first.next_after);
    expect(second.data.map(({ hold_id }: Answer) => hold_id)).toEqual([ids[4]]);
    expect(second).toMatchObject({ has_more: false, next_after: null });
    expect(await list(4)).toMatchObject({ has_more: false, next_after: null });
  });

  it('finds none where there are none', async () => {
    expect(await call('list_open_holds', { p_user_id: world.user })).toEqual({
      outcome: 'found',
      data: [],
      has_more: false,
      next_after: null,
      mirror: expect.objectContaining({ held: 0 }),
    });
  });
});
