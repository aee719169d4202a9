import { describe, expect, it } from '@jest/globals';
import { at, holdWorld } from '../support/holdWorld.ts';
import { testUsers } from '../support/postgres.ts';
import type { Answer } from '../support/sqlCall.ts';

const world = holdWorld();
const { balance, call, capture, consume, details, extend, grant, hold, release } = world;

describe('a hold whose time has come', () => {
  const enders: [string, () => Promise<unknown>][] = [
    ['a balance', () => balance(at(600))],
    ['a spend', () => consume(1, 'c', at(600))],
    ['a refused spend', () => consume(1000, 'c', at(600))],
    ['another hold', () => hold(1, 'next', { p_now: at(600) })],
    ['a look at it', () => call('get_hold', { p_hold_id: held, p_now: at(600) })],
    ['the list of holds', () => call('list_open_holds', { p_user_id: world.user, p_now: at(600) })],
    ['a release', () => release(held, at(600))],
    [
      'a grant',
      () =>
        call('grant_credits', {
          p_user_id: world.user,
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
    const [row] = await world.database.query(
      `select status, (select credits_held::int from users where id = '${world.user}') as held
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
      p_user_id: world.user,
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
    const [row] = await world.database.query(
      `select credits_balance::int as balance, credits_held::int as held from users where id = '${world.user}'`,
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

describe('a closed account', () => {
  const deletion = () =>
    world.database.query(
      testUsers === 'uuid'
        ? `delete from auth.users where id = '${world.user}'`
        : `delete from users where id = '${world.user}'`,
    );
  const comeback = () =>
    world.database.query(
      testUsers === 'uuid'
        ? `insert into auth.users (id, email) values ('${world.user}', 'again-${world.user}@example.com');
           insert into users (id, email) values ('${world.user}', 'again-${world.user}@example.com')`
        : `insert into users (id, email) values ('${world.user}', 'again-${world.user}@example.com')`,
    );

  it('keeps its holds as they were, and nothing can be done with them', async () => {
    await grant(50);
    const { hold_id } = await hold(20);
    await deletion();
    const gone = { outcome: 'not_found', hold_id, user_id: world.user };
    expect(await capture(hold_id, 'a')).toEqual(gone);
    expect(await release(hold_id)).toEqual(gone);
    expect(await extend(hold_id, 60)).toEqual(gone);
    expect(await details(hold_id, at(601))).toMatchObject({ status: 'open', remaining: 20 });
    expect(await call('expire_due_credits', { p_now: at(601) })).toMatchObject({ more: false });
    const [closed] = await world.database.query(
      'select credits_held::int as held from closed_accounts where user_id = $1',
      [world.user],
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
