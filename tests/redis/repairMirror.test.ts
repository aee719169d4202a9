import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Database, MirrorRecord, RedisStore } from '../../src/core/ports.ts';
import { createMirrorRepair } from '../../src/credits/repairMirror.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createTcpRedis } from '../../src/redis/tcpRedis.ts';
import { createUpstashRedis } from '../../src/redis/upstashRedis.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { asAdmin, createTestDatabase } from '../support/postgres.ts';
import { OTHER_LEDGER } from '../support/redisContract.ts';
import { collectLines } from '../support/redisLogger.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

const endless = () => false;

/** One ledger with the functions a test needs. */
async function openLedger(template?: string) {
  const database = await createTestDatabase(template === undefined ? {} : { template });
  const { logger } = collectLines();
  const db = createPgDatabase({ connectionString: database.connectionString, logger });
  let keys = 0;
  const key = () => {
    keys += 1;
    return `${database.name}-${keys}`;
  };
  return {
    database,
    db,
    async grant(userId: string, amount: number): Promise<void> {
      await db.rpc('ensure_user', { p_user_id: userId });
      await db.rpc('grant_credits', {
        p_user_id: userId,
        p_type: 'bonus',
        p_key: `grant:${key()}`,
        p_lots: [{ credits: amount }],
      });
    },
    consume: (userId: string, amount: number) =>
      db.rpc('consume_credits', { p_user_id: userId, p_amount: amount, p_key: key() }),
    async record(userId: string): Promise<MirrorRecord> {
      const { mirror } = await db.rpc<{ mirror: MirrorRecord }>('get_credit_balance', {
        p_user_id: userId,
      });
      return mirror;
    },
  };
}
type Ledger = Awaited<ReturnType<typeof openLedger>>;

function repairOf(db: Database, redis: RedisStore, nowMs = () => Date.now()) {
  const { logger, lines } = collectLines();
  return { ...createMirrorRepair({ db, redis, logger, nowMs }), lines };
}

/** Stops a job after a number of looks at the clock: in the middle of its work. */
function stopAfter(looks: number): () => boolean {
  let left = looks;
  return () => {
    left -= 1;
    return left < 0;
  };
}

function describeRepair(name: string, open: () => { redis: RedisStore; flush(): Promise<void> }) {
  describe(`mirror-repair, ${name}`, () => {
    let ledger: Ledger;
    let redis: RedisStore;
    beforeEach(async () => {
      ledger = await openLedger();
      const opened = open();
      await opened.flush();
      redis = open().redis;
    });
    afterEach(async () => {
      await ledger.db.close();
      await ledger.database.drop();
    });
    const expectMirrored = async (...userIds: string[]) => {
      for (const userId of userIds) {
        expect(await redis.readMirror(userId)).toEqual(await ledger.record(userId));
      }
    };

    it('copies everybody when Redis is empty, and then only what changes', async () => {
      for (const user of ['a', 'b', 'c']) await ledger.grant(user, 10);
      const repair = repairOf(ledger.db, redis);
      expect(await repair.run(endless)).toMatchObject({ repaired: 3, ahead: 0, removed: 0 });
      await expectMirrored('a', 'b', 'c');
      expect(repair.lines).toEqual([expect.stringContaining('holds no cursor')]);

      expect(await repair.run(endless)).toMatchObject({ repaired: 0 });
      await ledger.consume('b', 4);
      expect(await repair.run(endless)).toMatchObject({ repaired: 1 });
      await expectMirrored('b');
      expect(repair.lines).toHaveLength(1);
    });

    it('copies a user who never had a credit as well', async () => {
      await ledger.db.rpc('ensure_user', { p_user_id: 'poor' });
      await repairOf(ledger.db, redis).run(endless);
      expect(await redis.readMirror('poor')).toMatchObject({ balance: 0, available: 0 });
    });

    it('goes on where another process has stopped, without a second full pass', async () => {
      await ledger.grant('a', 10);
      await repairOf(ledger.db, redis).run(endless);
      await ledger.consume('a', 1);
      const next = repairOf(ledger.db, redis);
      expect(await next.run(endless)).toMatchObject({ repaired: 1 });
      expect(next.lines).toEqual([]);
    });

    it('deletes the copy of a user who is deleted, within the next run', async () => {
      await ledger.grant('a', 10);
      await ledger.grant('b', 10);
      const repair = repairOf(ledger.db, redis);
      await repair.run(endless);
      await ledger.database.query(`delete from users where id = 'a'`);
      expect(await repair.run(endless)).toMatchObject({ removed: 1 });
      expect(await redis.readMirror('a')).toBeNull();
      await expectMirrored('b');
      expect(await repair.run(endless)).toMatchObject({ removed: 0 });

      await ledger.database.query(`insert into users (id) values ('a')`);
      await repair.run(endless);
      expect(await redis.readMirror('a')).toMatchObject({ balance: 10 });
    });

    it('deletes copies of users that are long gone, and of other ledgers, in a full pass', async () => {
      await ledger.grant('a', 10);
      const record = await ledger.record('a');
      await redis.writeMirror('gone', record);
      await redis.writeMirror('A', record);
      await redis.writeMirror('stranger', { ...record, ledger: OTHER_LEDGER });
      await redis.writeMirror('a', { ...record, ledger: OTHER_LEDGER, version: 900, balance: 1 });
      expect(await repairOf(ledger.db, redis).run(endless)).toMatchObject({ removed: 3 });
      await expectMirrored('a');
      for (const user of ['gone', 'A', 'stranger']) {
        expect(await redis.readMirror(user)).toBeNull();
      }
    });

    it('goes through thousands of users, in pieces, by several processes', async () => {
      await ledger.database.query(
        `insert into users (id) select 'user-' || n from generate_series(1, 3500) n`,
      );
      await ledger.grant('user-3500', 5);
      let runs = 0;
      let repaired = 0;
      let last: { lines: string[] } = { lines: [] };
      do {
        const repair = repairOf(ledger.db, redis);
        ({ repaired: repaired } = await addTo(repaired, repair.run(stopAfter(2))));
        last = repair;
        runs += 1;
      } while (runs < 50 && JSON.parse((await redis.readCursor('mirror-repair')) ?? '{}').full);
      expect(repaired).toBe(3500);
      expect(runs).toBeGreaterThan(2);
      expect(last.lines).toEqual([]);
      await expectMirrored('user-1', 'user-1001', 'user-3500');
    });

    it('sees that the ledger was restored from a backup, and puts copies back', async () => {
      const source = await openLedger();
      for (const user of ['a', 'b']) await source.grant(user, 100);
      await source.db.close();
      await source.database.close();
      const backup = await openLedger(source.database.name);
      const live = await openLedger(source.database.name);
      try {
        for (let spend = 0; spend < 5; spend += 1) await live.consume('a', 1);
        await repairOf(live.db, redis).run(endless);
        expect(await redis.readMirror('a')).toMatchObject({ balance: 95 });

        // The same ledger, earlier: the copy of `a` is of a time that never was.
        const repair = repairOf(backup.db, redis);
        expect(await repair.run(endless)).toMatchObject({ ahead: 1 });
        expect(repair.lines).toEqual([expect.stringContaining('gone back')]);
        expect(await redis.readMirror('a')).toEqual(await backup.record('a'));
        expect(await redis.readMirror('a')).toMatchObject({ balance: 100 });
      } finally {
        for (const { db, database } of [live, backup]) {
          await db.close();
          await database.drop();
        }
        await asAdmin((admin) => admin.query(`drop database ${source.database.name}`));
      }
    });

    it('puts a copy back that is ahead, as soon as its user changes', async () => {
      await ledger.grant('a', 10);
      const repair = repairOf(ledger.db, redis);
      await repair.run(endless);
      await redis.writeMirror('a', { ...(await ledger.record('a')), version: 900, balance: 1 });
      await ledger.consume('a', 1);
      expect(await repair.run(endless)).toMatchObject({ ahead: 1 });
      await expectMirrored('a');
    });

    it('makes a full pass when what it wrote is lost, even in the middle of a run', async () => {
      for (const user of ['a', 'b']) await ledger.grant(user, 10);
      const repair = repairOf(ledger.db, redis);
      await repair.run(endless);
      await open().flush();
      redis = open().redis;
      const second = repairOf(ledger.db, redis);
      expect(await second.run(endless)).toMatchObject({ repaired: 2 });
      await expectMirrored('a', 'b');

      // Lost between the look at the cursor and its move: the run must not write it back.
      await ledger.consume('a', 1);
      const flushing: Database = {
        ...ledger.db,
        rpc: async (...call) => {
          const answer = await ledger.db.rpc(...(call as Parameters<Database['rpc']>));
          if (call[0] === 'list_mirror_changes') await redis.moveCursor(JOB, await seen(), 'lost');
          return answer as never;
        },
      };
      const JOB = 'mirror-repair';
      const seen = () => redis.readCursor(JOB);
      await repairOf(flushing, redis).run(endless);
      expect(await seen()).toBe('lost');
      const third = repairOf(ledger.db, redis);
      await third.run(endless);
      expect(third.lines).toEqual([expect.stringContaining('holds no cursor')]);
    });

    it('makes a full pass once a day', async () => {
      await ledger.grant('a', 10);
      const repair = repairOf(ledger.db, redis);
      await repair.run(endless);
      const cursor = JSON.parse((await redis.readCursor('mirror-repair')) ?? '{}');
      const aged = { ...cursor, full_at: new Date(Date.now() - 25 * 3_600_000).toISOString() };
      await redis.moveCursor('mirror-repair', JSON.stringify(cursor), JSON.stringify(aged));
      await redis.deleteMirror('a');
      await repair.run(endless);
      expect(repair.lines[1]).toMatch(/a day old/);
      await expectMirrored('a');
    });
  });
}

async function addTo(sum: number, run: Promise<{ repaired: number }>) {
  return { repaired: sum + (await run).repaired };
}

describe('in this process', () => {
  let redis = createMemoryRedis({ nowMs: Date.now });
  describeRepair('memory', () => ({
    redis,
    async flush() {
      redis = createMemoryRedis({ nowMs: Date.now });
    },
  }));
});

describeWith('redis-server', 'against a real Redis', (program) => {
  let server: RedisServer;
  let upstash: UpstashServer;
  let tcp: RedisStore;
  beforeAll(async () => {
    server = await startRedisServer({ program });
    upstash = await startUpstashServer({ redisPort: server.port });
    tcp = await createTcpRedis({ url: server.url(), logger: collectLines().logger });
  });
  afterAll(async () => {
    await tcp.close();
    await upstash.close();
    await server.stop();
  });
  const flush = async () => void (await server.wire.call('FLUSHALL'));
  describeRepair('TCP', () => ({ redis: tcp, flush }));

  it('works over REST, waits for a Redis that is away, says so once, and goes on', async () => {
    const ledger = await openLedger();
    await flush();
    await ledger.grant('a', 10);
    const repair = repairOf(ledger.db, createUpstashRedis(upstash));
    upstash.setFault('refuse');
    for (let second = 0; second < 3; second += 1) {
      expect(await repair.run(endless)).toMatchObject({ waiting: true });
    }
    expect(repair.lines).toHaveLength(1);
    upstash.clearFault();
    expect(await repair.run(endless)).toMatchObject({ repaired: 1 });
    await ledger.db.close();
    await ledger.database.drop();
  });
});
