/**
 * What holds however Redis fails and however it is reached: spending and checking stay right,
 * purchases are credited, and the mirror heals by itself.
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals';
import { actionsIn, type World } from './redisWorld.ts';
import { SERVICE_KEY, waitFor } from './stack.ts';

/** Declares the claims; `open` makes the world they share. */
export function declareRedisFaults(name: string, open: () => Promise<World>): void {
  let world: World;
  const act = actionsIn(() => world);
  let user: string;
  let users = 0;

  beforeAll(async () => {
    world = await open();
  });
  afterAll(() => world.end());
  beforeEach(async () => {
    users += 1;
    user = `${name}-${users}`;
    await act.fund(user, 1000);
    await act.mirrored(user);
    expect(await act.check(user)).toMatchObject({ available: 1000 });
  });
  afterEach(async () => {
    world.heal();
    await act.checkInRedis(user);
    act.complaints();
  });

  it('nothing: copies follow SQL and spending, and checks are answered by them', async () => {
    await act.fund(user, 5);
    await act.mirrored(user);
    expect(await act.checkInRedis(user)).toMatchObject({ available: 1005 });
    await act.spendExactly(user, 3);
    await act.mirrored(user);
    expect(await act.checkInRedis(user)).toMatchObject({ available: 1002 });
    expect(await act.checkInRedis(user, 1003)).toMatchObject({ allowed: false });
  });

  it('a hint of a session that was never credited does not suppress its credit', async () => {
    await act.buyPack(user);
    expect((await act.ledger(user)).available).toBe(1050);
    await act.mirrored(user);
  });

  it.each(['down', 'blackHole', 'slow'] as const)('%s', async (fault) => {
    world[fault]();
    await act.spendExactly(user, 10);
    await act.buyPack(user);
    expect((await act.ledger(user)).available).toBe(1040);
    expect(await act.check(user)).toMatchObject({ available: 1040, source: 'ledger' });
    // A few lines for a few hundred operations.
    expect(act.complaints().length).toBeLessThan(15);
    world.heal();
    await act.mirrored(user);
    await act.checkInRedis(user);
    await act.spendExactly(user, 3);
  });

  it('flushed, again and again, while many spend', async () => {
    const spenders = Array.from({ length: 8 }, (_, index) => `${user}-spender-${index}`);
    for (const spender of spenders) await act.fund(spender, 40);
    let flushes = 0;
    const spending = Promise.all(spenders.map((spender) => act.spendExactly(spender, 10)));
    const flushing = (async () => {
      for (; flushes < 5; flushes += 1) {
        await world.server.wire.call('FLUSHALL');
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    await Promise.all([spending, flushing]);
    for (const spender of [...spenders, user]) await act.mirrored(spender);
    for (const spender of spenders) {
      expect(await act.check(spender)).toMatchObject({ available: 30 });
    }
  });

  it('full, refusing to write', async () => {
    await world.server.wire.call('CONFIG', 'SET', 'maxmemory', '1');
    await act.spendExactly(user, 5);
    await act.buyPack(user);
    expect(await act.check(user)).toMatchObject({ available: 1045 });
    // Nobody finds the copy from before either.
    expect(await world.server.wire.call('EXISTS', `credits:{${user}}`)).toBe(0);
    await world.server.wire.call('CONFIG', 'SET', 'maxmemory', '0');
    await act.mirrored(user);
  });

  it('evicting what it likes', async () => {
    await world.server.wire.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random');
    await world.server.wire.call('CONFIG', 'SET', 'maxmemory', '1');
    await act.spendExactly(user, 5);
    await world.server.wire.call('CONFIG', 'SET', 'maxmemory', '0');
    await world.server.wire.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    await act.mirrored(user);
    expect(await act.check(user)).toMatchObject({ available: 995 });
  });

  it('without its scripts', async () => {
    await world.server.wire.call('SCRIPT', 'FLUSH');
    await act.spendExactly(user, 3);
    await act.mirrored(user);
  });

  it('full of nonsense', async () => {
    const key = `credits:{${user}}`;
    for (const nonsense of [
      ['SET', key, 'x'],
      ['HSET', key, 'available', '-1e9'],
      ['HSET', key, 'version', '99999999999999999999'],
      ['HSET', key, 'ledger', '00000000-0000-4000-8000-000000000000', 'available', '1'],
      ['HDEL', key, 'suspended'],
    ]) {
      await world.server.wire.call(...nonsense);
      expect(await act.check(user)).toMatchObject({ available: 1000, source: 'ledger' });
      await act.mirrored(user);
    }
  });

  it('holding the copy of a deleted user', async () => {
    await world.database.query('delete from users where id = $1', [user]);
    await waitFor(
      async () => (await world.server.wire.call('EXISTS', `credits:{${user}}`)) === 0,
      'the copy to go',
    );
    const answer = await world.stack.call('POST', '/api/credits/check', {
      bearer: SERVICE_KEY,
      body: { user_id: user, amount: 1 },
    });
    expect(answer.status).toBe(404);
    await act.fund(user, 1);
  });
}
