/**
 * The whole of Purser while its Redis fails in every way a Redis can: spending and checking stay
 * right, purchases are credited, and the mirror heals by itself.
 */
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  jest,
} from '@jest/globals';
import type { MirrorRecord } from '../../src/core/ports.ts';
import { type FaultProxy, startFaultProxy } from '../support/faultProxy.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import type { RedisWire } from '../support/redisWire.ts';
import { describeWith } from '../support/requirements.ts';
import { callAsService } from '../support/sqlCall.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

// A bound against hanging; nothing is judged by its speed.
jest.setTimeout(60_000);

/** A stack and its Redis, with the faults of the network between them. */
interface World {
  stack: Stack;
  database: TestDatabase;
  server: RedisServer;
  down(): void;
  blackHole(): void;
  slow(): void;
  heal(): void;
  end(): Promise<void>;
}

async function openTcpWorld(program: string, settings: string[] = []): Promise<World> {
  const server = await startRedisServer({ program, settings });
  const proxy: FaultProxy = await startFaultProxy({ port: server.port });
  const database = await createTestDatabase();
  const stack = await startStack({
    connectionString: database.connectionString,
    env: { REDIS_URL: proxy.through(server.url(2)) },
  });
  await server.wire.call('SELECT', 2);
  return {
    stack,
    database,
    server,
    down() {
      proxy.setMode('refuse');
      proxy.cutAll();
    },
    blackHole: () => proxy.setMode('black_hole'),
    slow: () => proxy.setDelay(500),
    heal() {
      proxy.setDelay(0);
      proxy.setMode('pass');
    },
    async end() {
      await stack.stop();
      await proxy.close();
      await server.stop();
      await database.drop();
    },
  };
}

async function openUpstashWorld(program: string): Promise<World> {
  const server = await startRedisServer({ program });
  const upstash: UpstashServer = await startUpstashServer({ redisPort: server.port });
  const database = await createTestDatabase();
  const stack = await startStack({
    connectionString: database.connectionString,
    env: { UPSTASH_REDIS_REST_URL: upstash.url, UPSTASH_REDIS_REST_TOKEN: upstash.token },
  });
  return {
    stack,
    database,
    server,
    down: () => upstash.setFault('refuse'),
    blackHole: () => upstash.setFault('hang'),
    slow: () => upstash.setDelay(500),
    heal() {
      upstash.setDelay(0);
      upstash.clearFault();
    },
    async end() {
      await stack.stop();
      await upstash.close();
      await server.stop();
      await database.drop();
    },
  };
}

let keys = 0;

/** What a test does to a world, and what it may rely on. */
function actions(world: () => World) {
  const post = (target: string, body: unknown, headers: Record<string, string> = {}) =>
    world().stack.call('POST', target, { bearer: SERVICE_KEY, body, headers });
  return {
    /** Credits by SQL, as an operator would give them: the running server is not told. */
    async fund(userId: string, credits: number): Promise<void> {
      keys += 1;
      const { database } = world();
      await callAsService(database, 'ensure_user', { p_user_id: userId });
      await callAsService(database, 'grant_credits', {
        p_user_id: userId,
        p_type: 'bonus',
        p_key: `grant:${keys}`,
        p_lots: [{ credits }],
      });
    },
    async consume(userId: string, amount: number): Promise<number> {
      keys += 1;
      const headers = { 'idempotency-key': `spend-${keys}` };
      const answer = await post('/api/credits/consume', { user_id: userId, amount }, headers);
      expect(answer).toMatchObject({ status: 200, body: { outcome: 'applied' } });
      return answer.body.available;
    },
    async check(userId: string, amount = 1) {
      const { status, body } = await post('/api/credits/check', { user_id: userId, amount });
      expect(status).toBe(200);
      return body as {
        allowed: boolean;
        available: number;
        version: number;
        source: 'redis' | 'ledger';
      };
    },
    async ledger(userId: string): Promise<MirrorRecord> {
      const answer = await callAsService(world().database, 'get_credit_balance', {
        p_user_id: userId,
      });
      return answer.mirror as MirrorRecord;
    },
    /** Waits, asking nothing of Purser, until Redis holds what the ledger does. */
    async mirrored(userId: string, wire: RedisWire = world().server.wire): Promise<void> {
      const { version, available } = await this.ledger(userId);
      await waitFor(async () => {
        const fields = await wire
          .call('HMGET', `credits:{${userId}}`, 'version', 'available')
          .catch(() => null);
        return JSON.stringify(fields) === JSON.stringify([String(version), String(available)]);
      }, `the copy of ${userId}`);
    },
    /** Spends one at a time with a check after each; every answer must be exact. */
    async spendExactly(userId: string, times: number): Promise<void> {
      let { available } = await this.ledger(userId);
      for (let spend = 0; spend < times; spend += 1) {
        available -= 1;
        expect(await this.consume(userId, 1)).toBe(available);
        expect(await this.check(userId, available)).toMatchObject({ allowed: true, available });
        expect(await this.check(userId, available + 1)).toMatchObject({ allowed: false });
      }
    },
    async buyPack(userId: string): Promise<void> {
      const { stack, database } = world();
      const { body: session } = await stack.call('POST', '/api/checkout-session', {
        bearer: await stack.token(userId),
        body: { plan: 'pack_50' },
      });
      await world()
        .server.wire.call('SET', `processed:${session.session_id}`, '1')
        .catch(() => {});
      await stack.sandbox.pay(session.session_id);
      const events = await stack.stripe.events.list({ limit: 100 });
      const event = events.data.find(
        ({ type, data }) =>
          type === 'checkout.session.completed' &&
          (data.object as { id?: string }).id === session.session_id,
      );
      expect((await stack.deliver(event)).status).toBe(200);
      await waitFor(async () => {
        const [row] = await database.query<{ status: string }>(
          'select status from stripe_webhook_events where stripe_event_id = $1',
          [event?.id],
        );
        return row?.status === 'processed';
      }, 'the purchase');
    },
    /** Complaints since the last look: an outage is said, not shouted. */
    complaints(): string[] {
      const lines = world().stack.logs.splice(0);
      return lines
        .filter(({ level }) => level === 'warn' || level === 'error')
        .map(({ message }) => message);
    },
  };
}

describeWith('redis-server', 'while Redis fails', (program) => {
  describe.each([
    ['TCP', () => openTcpWorld(program)],
    ['Upstash REST', () => openUpstashWorld(program)],
  ])('%s', (name, open) => {
    let world: World;
    const act = actions(() => world);
    let user: string;
    let users = 0;

    beforeAll(async () => {
      world = await open();
    });
    afterAll(() => world.end());
    beforeEach(async () => {
      users += 1;
      user = `${name.slice(0, 3)}-${users}`;
      await act.fund(user, 1000);
      await act.mirrored(user);
      expect(await act.check(user)).toMatchObject({ available: 1000 });
    });
    afterEach(async () => {
      world.heal();
      await waitFor(async () => (await act.check(user)).source === 'redis', 'Redis to be asked');
      act.complaints();
    });

    it('nothing: copies follow SQL and spending, and checks are answered by them', async () => {
      await act.fund(user, 5);
      await act.mirrored(user);
      expect(await act.check(user)).toMatchObject({ available: 1005, source: 'redis' });
      await act.spendExactly(user, 3);
      await act.mirrored(user);
      expect(await act.check(user)).toMatchObject({ available: 1002, source: 'redis' });
      expect(await act.check(user, 1003)).toMatchObject({ allowed: false, source: 'redis' });
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
      await waitFor(async () => (await act.check(user)).source === 'redis', 'Redis to be asked');
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
  });

  describe('as a process', () => {
    let world: World;
    const act = actions(() => world);
    beforeEach(async () => {
      world = await openTcpWorld(program);
      for (const user of ['a', 'b']) {
        await act.fund(user, 1000);
        await act.mirrored(user);
      }
      await act.check('a');
    });
    afterEach(() => world.end());

    it('killed and restarted empty', async () => {
      await world.server.kill();
      await act.spendExactly('a', 5);
      await world.server.start();
      await world.server.wire.call('SELECT', 2);
      await act.mirrored('a');
      await act.mirrored('b');
      await act.spendExactly('a', 3);
    });

    it('restored from an older snapshot', async () => {
      await world.server.wire.call('SAVE');
      await act.spendExactly('a', 5);
      await act.mirrored('a');
      await world.server.kill();
      await world.server.start();
      await world.server.wire.call('SELECT', 2);
      expect(await world.server.wire.call('HGET', 'credits:{a}', 'available')).toBe('1000');
      await act.mirrored('a');
      await waitFor(async () => (await act.check('a')).source === 'redis', 'Redis to be asked');
      expect(await act.check('a')).toMatchObject({ available: 995 });
    });

    it('failed over to a replica that has lost the last writes', async () => {
      const replica = await startRedisServer({ program });
      try {
        await replica.wire.call('REPLICAOF', '127.0.0.1', world.server.port);
        await waitFor(
          async () =>
            String(await replica.wire.call('INFO', 'replication')).includes('link_status:up'),
          'the replica',
        );
        await replica.wire.call('SELECT', 2);
        await act.mirrored('b', replica.wire);
        await replica.wire.call('REPLICAOF', 'NO', 'ONE');
        await act.spendExactly('a', 5);
        await act.mirrored('a');
        const { port } = world.server;
        await world.server.kill();
        await replica.wire.call('CONFIG', 'SET', 'port', port);
        expect(await replica.wire.call('HGET', 'credits:{a}', 'available')).toBe('1000');
        await act.mirrored('a', replica.wire);
        await waitFor(async () => (await act.check('a')).source === 'redis', 'Redis to be asked');
        expect(await act.check('a')).toMatchObject({ available: 995 });
        await act.spendExactly('b', 3);
      } finally {
        await replica.stop();
      }
    });

    it('holding a copy ahead of the ledger, put back when its user changes', async () => {
      await world.server.wire.call('HSET', 'credits:{a}', 'version', '500', 'available', '7');
      await act.fund('a', 1);
      await act.mirrored('a');
      expect(await act.check('a')).toMatchObject({ available: 1001 });
    });
  });
});
