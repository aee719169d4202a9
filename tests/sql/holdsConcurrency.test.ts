import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { type Answer, callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let users = 0;
async function newHolder(credits: number): Promise<string> {
  users += 1;
  const user = userId(`racer-${users}`);
  await call('ensure_user', { p_user_id: user });
  await call('grant_credits', {
    p_user_id: user,
    p_type: 'bonus',
    p_key: 'grant:1',
    p_lots: [{ credits }],
  });
  return user;
}

const NOON = '2030-01-01T12:00:00.000Z';
const at = (seconds: number) => new Date(Date.parse(NOON) + seconds * 1000).toISOString();
const hold = (user: string, amount: number, key: string, now?: string) =>
  call('hold_credits', { p_user_id: user, p_amount: amount, p_key: key, p_now: now });
const capture = (holdId: string, key: string, amount?: number, now?: string) =>
  call('capture_hold', { p_hold_id: holdId, p_key: key, p_amount: amount, p_now: now });
const consume = (user: string, amount: number, key: string, now?: string) =>
  call('consume_credits', { p_user_id: user, p_amount: amount, p_key: key, p_now: now });
const words = (answers: Answer[]) => countBy(answers.map(({ outcome }) => String(outcome)));

/** What is wrong with the accounts: nothing in every committed snapshot. */
const DRIFT = `
  select u.id, u.credits_held, u.credits_balance from users u
  where u.credits_held <> (select coalesce(sum(h.amount - h.captured), 0) from credit_holds h
                           where h.user_id = u.id::text and h.status = 'open')
     or u.credits_balance <> (select coalesce(sum(t.amount), 0) from credit_transactions t
                              where t.user_id = u.id::text)
     or (u.credits_balance < u.credits_held and u.credits_debt = 0)`;

let badReads = 0;
let reading: { stop(): Promise<number> };
function startReading(): typeof reading {
  let going = true;
  let reads = 0;
  const reader = (async () => {
    while (going) {
      badReads += (await database.current.query(DRIFT)).length;
      reads += 1;
    }
    return reads;
  })();
  return {
    stop() {
      going = false;
      return reader;
    },
  };
}
beforeEach(() => {
  badReads = 0;
  reading = startReading();
});
afterEach(async () => {
  expect(await reading.stop()).toBeGreaterThan(0);
  expect(badReads).toBe(0);
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});

describe('holds under many hands', () => {
  it('100 holds, each captured whole 16 times under different keys: 100 captures', async () => {
    const holds: string[] = [];
    for (let n = 0; n < 10; n += 1) {
      const user = await newHolder(100);
      for (let k = 0; k < 10; k += 1) holds.push((await hold(user, 10, `h${k}`)).hold_id);
    }
    // Round by round, so that the captures of one hold meet rather than follow one another.
    const answers = await concurrently(1600, (index) =>
      capture(holds[index % 100] ?? '', `k${Math.floor(index / 100)}`),
    );
    expect(words(answers)).toEqual({ applied: 100, hold_ended: 1500 });
    const [total] = await database.current.query(
      `select count(*)::int as captures, sum(amount)::int as amount from credit_transactions
       where idempotency_key like 'capture:%'`,
    );
    expect(total).toEqual({ captures: 100, amount: -1000 });
  });

  it('one capture sent 16 times under one key is one capture, and 16 equal answers', async () => {
    const user = await newHolder(100);
    const { hold_id } = await hold(user, 60, 'h');
    const answers = await concurrently(16, () => capture(hold_id, 'same', 20));
    expect(words(answers)).toEqual({ applied: 1, replayed: 15 });
    const bodies = answers.map(({ outcome: _outcome, mirror: _mirror, ...body }) => body);
    for (const body of bodies) expect(body).toEqual(bodies[0]);
    expect(bodies[0]).toMatchObject({ captured: 20, remaining: 40, balance: 80, held: 40 });
  });

  it('one hold asked for 16 times under one key is one hold', async () => {
    const user = await newHolder(100);
    const answers = await concurrently(16, () => hold(user, 20, 'same'));
    expect(words(answers)).toEqual({ applied: 1, replayed: 15 });
    expect(new Set(answers.map(({ hold_id }) => hold_id)).size).toBe(1);
    expect(answers.every(({ held, available }) => held === 20 && available === 80)).toBe(true);
  });

  it('captures of a part never pass the whole', async () => {
    const user = await newHolder(100);
    const { hold_id } = await hold(user, 100, 'h');
    const answers = await concurrently(40, (index) => capture(hold_id, `k${index}`, 3));
    expect(words(answers)).toEqual({ applied: 33, hold_exceeded: 7 });
    expect(await call('get_hold', { p_hold_id: hold_id })).toMatchObject({
      status: 'open',
      captured: 99,
      remaining: 1,
    });
    expect(await capture(hold_id, 'rest')).toMatchObject({ status: 'captured', balance: 0 });
  });

  it('holds and spends together take what there is, and not one credit more', async () => {
    const user = await newHolder(100);
    const answers = await concurrently(80, (index) =>
      index % 2 === 0 ? hold(user, 7, `h${index}`) : consume(user, 7, `c${index}`),
    );
    expect(words(answers)).toEqual({ applied: 14, insufficient_credits: 66 });
    expect(answers.every(({ available }) => available >= 0)).toBe(true);
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ available: 2 });
  });
});

describe('a capture', () => {
  it('and a release: one of them ends the hold, and both say the same about it', async () => {
    const user = await newHolder(40 * 5);
    const holds = await concurrently(40, async (n) =>
      String((await hold(user, 5, `h${n}`)).hold_id),
    );
    const answers = await concurrently(80, (index) => {
      const id = holds[index % 40] ?? '';
      // Every second hold is released first, so that either may win.
      return index < 40 === (index % 2 === 0)
        ? call('release_hold', { p_hold_id: id })
        : capture(id, 'k');
    });
    let captured = 0;
    for (const id of holds) {
      const { status } = await call('get_hold', { p_hold_id: id });
      const outcomes = answers
        .filter(({ hold_id }) => hold_id === id)
        .map(({ outcome }) => outcome);
      expect(outcomes.sort()).toEqual(
        status === 'captured' ? ['applied', 'unchanged'] : ['applied', 'hold_ended'],
      );
      if (status === 'captured') captured += 1;
    }
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 200 - captured * 5,
      held: 0,
    });
  });

  it('and the expiry: the credits are captured or spent by another, never both', async () => {
    const accounts = await Promise.all(
      Array.from({ length: 30 }, async (_, n) => {
        const user = await newHolder(20);
        return { user, holdId: String((await hold(user, 20, 'h', at(0))).hold_id), n };
      }),
    );
    await Promise.all(
      accounts.map(async ({ user, holdId, n }) => {
        // The hold ends at 600. Whose lock comes first decides.
        const tries = [
          () => capture(holdId, 'k', undefined, at(599)),
          () => consume(user, 20, 'c', at(600)),
          () => call('expire_due_credits', { p_now: at(600) }),
        ];
        const order = n % 2 === 0 ? tries : tries.reverse();
        const answers = await Promise.all(order.map((attempt) => attempt()));
        const won = answers.filter(({ outcome }) => outcome === 'applied');
        expect(won).toHaveLength(1);
        expect(await call('get_credit_balance', { p_user_id: user, p_now: at(600) })).toMatchObject(
          { balance: 0, held: 0 },
        );
      }),
    );
  });
});

describe('an extension', () => {
  it('and the expiry: it is extended or ended, and the credits agree', async () => {
    const accounts = await Promise.all(
      Array.from({ length: 30 }, async () => {
        const user = await newHolder(20);
        return { user, holdId: String((await hold(user, 20, 'h', at(0))).hold_id) };
      }),
    );
    await Promise.all(
      accounts.map(async ({ user, holdId }, n) => {
        const extend = () =>
          call('extend_hold', { p_hold_id: holdId, p_expires_in_seconds: 600, p_now: at(599) });
        const spend = () => consume(user, 1, 'c', at(600));
        const [first, second] = await Promise.all(
          n % 2 === 0 ? [extend(), spend()] : [spend(), extend()],
        );
        const [extended, spent] = n % 2 === 0 ? [first, second] : [second, first];
        expect([extended?.outcome, spent?.outcome]).toEqual(
          extended?.outcome === 'applied'
            ? ['applied', 'insufficient_credits']
            : ['hold_ended', 'applied'],
        );
        expect(await call('get_hold', { p_hold_id: holdId, p_now: at(600) })).toMatchObject({
          status: extended?.outcome === 'applied' ? 'open' : 'expired',
        });
      }),
    );
  });
});
