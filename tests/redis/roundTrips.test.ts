import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { OpenedDatabase } from '../../src/compose/openDatabase.ts';
import { every } from '../../src/jobs/every.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { connectWire, type RedisWire } from '../support/redisWire.ts';
import { describeWith } from '../support/requirements.ts';
import { callAsService } from '../support/sqlCall.ts';
import { SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

const CALLS = 20;
const USER = 'counted';
const KEY = `credits:{${USER}}`;

describeWith('redis-server', 'round trips of a warm request', (program) => {
  describe.each(['TCP', 'Upstash REST'])('over %s', (name) => {
    let server: RedisServer;
    let upstash: UpstashServer;
    let database: TestDatabase;
    let stack: Stack;
    let monitor: RedisWire;
    const schedule: { stop(): void }[] = [];
    let calls: string[] = [];
    let commands: string[] = [];

    function counting(opened: OpenedDatabase): OpenedDatabase {
      const { db } = opened;
      const counted: typeof db = {
        ...db,
        rpc: (...call) => {
          calls.push(call[0]);
          return db.rpc(...call);
        },
      };
      return { ...opened, db: counted };
    }

    beforeAll(async () => {
      server = await startRedisServer({ program });
      upstash = await startUpstashServer({ redisPort: server.port });
      database = await createTestDatabase();
      stack = await startStack({
        connectionString: database.connectionString,
        wrapDatabase: counting,
        every: (seconds, work) => {
          const timer = every(seconds, work);
          schedule.push(timer);
          return timer;
        },
        env:
          name === 'TCP'
            ? { REDIS_URL: server.url() }
            : { UPSTASH_REDIS_REST_URL: upstash.url, UPSTASH_REDIS_REST_TOKEN: upstash.token },
      });
      await callAsService(database, 'ensure_user', { p_user_id: USER });
      await callAsService(database, 'grant_credits', {
        p_user_id: USER,
        p_type: 'bonus',
        p_key: 'grant:1',
        p_lots: [{ credits: 1000 }],
      });
      await waitFor(async () => {
        const cursor = await server.wire.call('GET', 'purser:cursor:mirror-repair');
        const copy = await server.wire.call('HGET', KEY, 'available');
        return copy === '1000' && typeof cursor === 'string' && JSON.parse(cursor).full === null;
      }, 'mirror-repair to have been here');
      // From here on no job comes in between, and those at work have ended.
      for (const timer of schedule) timer.stop();
      await waitFor(async () => {
        const [row] = await database.query<{ at_work: number }>(
          'select count(*)::int as at_work from scheduled_jobs where leased_until is not null',
        );
        return row?.at_work === 0;
      }, 'the end of the jobs at work');
      monitor = await connectWire(server.port);
      await monitor.call('MONITOR');
      monitor.onPush((line) => void commands.push(String(line)));
    });
    afterAll(async () => {
      monitor.close();
      await stack.stop();
      await upstash.close();
      await server.stop();
      await database.drop();
    });

    const check = () =>
      stack.call('POST', '/api/credits/check', {
        bearer: SERVICE_KEY,
        body: { user_id: USER, amount: 1 },
      });
    const consume = (key: string) =>
      stack.call('POST', '/api/credits/consume', {
        bearer: SERVICE_KEY,
        body: { user_id: USER, amount: 1 },
        headers: { 'idempotency-key': key },
      });
    /** What was asked since, without the jobs, which run by the clock. */
    async function counted(work: () => Promise<void>) {
      await settled();
      commands = [];
      calls = [];
      upstash.requests.length = 0;
      await work();
      await settled();
      return {
        database: calls.filter((call) => /credit/.test(call) && !call.startsWith('expire')),
        // MONITOR shows what a script does as well, as coming from `lua`.
        redis: commands.filter((line) => line.includes(KEY) && !line.includes(' lua]')),
        limits: commands.filter((line) => line.includes('purser:limit:')),
        requests: upstash.requests.filter((request) =>
          JSON.stringify(request.commands).includes(KEY),
        ),
      };
    }
    /** MONITOR is read up to here when it has seen this. */
    async function settled(): Promise<void> {
      const mark = `mark-${Math.random()}`;
      await server.wire.call('ECHO', mark);
      while (!commands.some((line) => line.includes(mark))) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }

    it('check: one of Redis, none of the database', async () => {
      await check();
      await check();
      const { database, redis, limits, requests } = await counted(async () => {
        for (let call = 0; call < CALLS; call += 1) {
          expect((await check()).body).toMatchObject({ allowed: true, source: 'redis' });
        }
      });
      expect(database).toEqual([]);
      expect(redis).toHaveLength(CALLS);
      expect(limits).toEqual([]);
      expect(redis.every((line) => line.includes('"HMGET"'))).toBe(true);
      expect(requests).toHaveLength(name === 'TCP' ? 0 : CALLS);
    });

    it('consume: one of the database, one of Redis after the answer', async () => {
      const { body } = await consume('warm');
      await waitFor(
        async () => (await server.wire.call('HGET', KEY, 'version')) === String(body.version),
        'the first update, which brings the script along',
      );
      const { database, redis, requests } = await counted(async () => {
        for (let call = 0; call < CALLS; call += 1) {
          expect((await consume(`k${call}`)).status).toBe(200);
        }
        // The update follows the answer: the last one may still be on its way.
        await waitFor(
          () =>
            commands.filter((line) => line.includes(KEY) && line.includes('"EVALSHA"')).length >=
            CALLS,
          'the last update of the mirror',
        );
      });
      expect(database).toEqual(Array(CALLS).fill('consume_credits'));
      // mirror-repair may come by as well; it compares each user at most once a second.
      // mirror-repair writes as well, in lower case where it writes many at once.
      const byConsume = redis.filter((line) => /"evalsha"/i.test(line));
      expect(byConsume.length).toBeGreaterThanOrEqual(CALLS);
      expect(redis).toHaveLength(byConsume.length);
      expect(requests.length).toBeGreaterThanOrEqual(name === 'TCP' ? 0 : CALLS);
    });

    it('consume-batch: one of the database, one of Redis for all its users', async () => {
      const other = 'counted-too';
      await callAsService(database, 'ensure_user', { p_user_id: other });
      await callAsService(database, 'grant_credits', {
        p_user_id: other,
        p_type: 'bonus',
        p_key: 'grant:1',
        p_lots: [{ credits: 1000 }],
      });
      const operations = Array.from({ length: CALLS }, (_, n) => ({
        user_id: n % 2 === 0 ? USER : other,
        amount: 1,
        idempotency_key: `batch-${n}`,
      }));
      const { database: asked, requests } = await counted(async () => {
        const answer = await stack.call('POST', '/api/credits/consume-batch', {
          bearer: SERVICE_KEY,
          body: { operations },
        });
        expect(answer.body.results).toHaveLength(CALLS);
        await waitFor(
          async () =>
            (await server.wire.call('HGET', `credits:{${other}}`, 'available')) ===
            String(1000 - CALLS / 2),
          'the update of the mirror',
        );
      });
      expect(asked).toEqual(['consume_credits_batch']);
      // mirror-repair writes many users in one request as well, but never these two alone before.
      if (name === 'TCP') return;
      const both = requests.filter((request) => JSON.stringify(request.commands).includes(other));
      expect(both.length).toBeGreaterThanOrEqual(1);
    });
  });
});
