/**
 * The whole of Purser with a Redis that can be made to fail, and what a test does to it.
 */
import { expect } from '@jest/globals';
import type { MirrorRecord } from '../../src/core/ports.ts';
import { type FaultProxy, startFaultProxy } from './faultProxy.ts';
import { createTestDatabase, type TestDatabase } from './postgres.ts';
import { type RedisServer, startRedisServer } from './redisServer.ts';
import type { RedisWire } from './redisWire.ts';
import { callAsService } from './sqlCall.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from './stack.ts';
import { startUpstashServer, type UpstashServer } from './upstashServer.ts';

/** A stack and its Redis, with the faults of the network between them. */
export interface World {
  stack: Stack;
  database: TestDatabase;
  server: RedisServer;
  down(): void;
  blackHole(): void;
  slow(): void;
  heal(): void;
  end(): Promise<void>;
}

export async function openTcpWorld(program: string): Promise<World> {
  const server = await startRedisServer({ program });
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

export async function openUpstashWorld(program: string): Promise<World> {
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
export function actionsIn(world: () => World) {
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
    /** What Redis answers; a slow answer of a busy machine is one of the ledger, and asked again. */
    checkInRedis(userId: string, amount = 1) {
      return waitFor(async () => {
        const answer = await this.check(userId, amount);
        return answer.source === 'redis' ? answer : null;
      }, `Redis to answer about ${userId}`);
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
