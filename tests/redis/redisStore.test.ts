import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { RedisStore } from '../../src/core/ports.ts';
import { creditsKey, userOfCreditsKey } from '../../src/redis/keys.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createTcpRedis } from '../../src/redis/tcpRedis.ts';
import { createUpstashRedis } from '../../src/redis/upstashRedis.ts';
import {
  type ContractSubject,
  describeRedisContract,
  mirrorRecord,
} from '../support/redisContract.ts';
import { collectLines } from '../support/redisLogger.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

describe('in this process', () => {
  let now = 1_000_000;
  let store = createMemoryRedis({ nowMs: () => now });
  describeRedisContract('memory', () => ({
    get store() {
      return store;
    },
    async flush() {
      store = createMemoryRedis({ nowMs: () => now });
    },
    async expire() {
      now += 61_000;
    },
  }));
});

describeWith('redis-server', 'against a real Redis', (program) => {
  let server: RedisServer;
  let upstash: UpstashServer;
  let lockingUpstash: UpstashServer;
  const stores: Partial<Record<'tcp' | 'upstash' | 'locking', RedisStore>> = {};

  beforeAll(async () => {
    server = await startRedisServer({ program });
    upstash = await startUpstashServer({ redisPort: server.port });
    lockingUpstash = await startUpstashServer({ redisPort: server.port, keyLocking: true });
    stores.tcp = await createTcpRedis({ url: server.url(), logger: collectLines().logger });
    stores.upstash = createUpstashRedis(upstash);
    stores.locking = createUpstashRedis({ ...lockingUpstash, keyLocking: true });
  });
  afterAll(async () => {
    await stores.tcp?.close();
    await upstash.close();
    await lockingUpstash.close();
    await server.stop();
  });

  const subject = (name: keyof typeof stores) => (): ContractSubject => ({
    store: stores[name] as RedisStore,
    flush: async () => void (await server.wire.call('FLUSHALL')),
    expire: async (key) => {
      await server.wire.call('PEXPIRE', key, 1);
      await expect(waitUntilGone(key)).resolves.toBe(true);
    },
  });
  async function waitUntilGone(key: string): Promise<boolean> {
    for (;;) if ((await server.wire.call('EXISTS', key)) === 0) return true;
  }

  describeRedisContract('TCP', subject('tcp'));
  describeRedisContract('Upstash REST', subject('upstash'));
  describeRedisContract('Upstash REST with key locking', subject('locking'));

  describe.each(['tcp', 'upstash'] as const)('what another client finds (%s)', (name) => {
    let store: RedisStore;
    beforeEach(async () => {
      store = stores[name] as RedisStore;
      await server.wire.call('FLUSHALL');
    });

    it('is a hash of decimal strings without a time to live', async () => {
      const record = mirrorRecord({
        version: 7,
        balance: 50,
        held: 5,
        available: 45,
        valid_until: 1_790_000_000_123,
      });
      await store.writeMirror('user-1', record);
      expect(await server.wire.call('TYPE', 'credits:{user-1}')).toBe('hash');
      expect(await server.wire.call('PTTL', 'credits:{user-1}')).toBe(-1);
      const flat = (await server.wire.call('HGETALL', 'credits:{user-1}')) as string[];
      const pairs = flat.flatMap((text, index) => (index % 2 ? [] : [[text, flat[index + 1]]]));
      expect(Object.fromEntries(pairs)).toEqual({
        ledger: record.ledger,
        version: '7',
        balance: '50',
        held: '5',
        available: '45',
        suspended: '0',
        valid_until: '1790000000123',
      });
    });

    it('answers a quota check with HGET', async () => {
      await store.writeMirror(
        '550e8400-e29b-41d4-a716-446655440000',
        mirrorRecord({ available: 45 }),
      );
      const key = 'credits:{550e8400-e29b-41d4-a716-446655440000}';
      expect(await server.wire.call('HGET', key, 'available')).toBe('45');
      expect(await server.wire.call('HGET', key, 'valid_until')).toBe('');
    });

    it('writes suspended as 1', async () => {
      await store.writeMirror('u', mirrorRecord({ suspended: true }));
      expect(await server.wire.call('HGET', 'credits:{u}', 'suspended')).toBe('1');
    });

    it('sees markers as strings that end', async () => {
      await store.setMarker('processed:cs_1', 24 * 3600);
      expect(await server.wire.call('TYPE', 'processed:cs_1')).toBe('string');
      const ttl = Number(await server.wire.call('TTL', 'processed:cs_1'));
      expect(ttl).toBeGreaterThan(24 * 3600 - 60);
      expect(ttl).toBeLessThanOrEqual(24 * 3600);
    });

    it('sees windows as numbers that end', async () => {
      await store.countInWindow('purser:limit:a', 60);
      await store.countInWindow('purser:limit:a', 60);
      expect(await server.wire.call('GET', 'purser:limit:a')).toBe('2');
      const left = Number(await server.wire.call('PTTL', 'purser:limit:a'));
      expect(left).toBeGreaterThan(0);
      expect(left).toBeLessThanOrEqual(60_000);
    });

    it('gives an end to a count that has none, so that no limit refuses for ever', async () => {
      await server.wire.call('SET', 'purser:limit:a', '9');
      expect(await store.countInWindow('purser:limit:a', 60)).toEqual({
        count: 10,
        resetsInSeconds: 60,
      });
      expect(Number(await server.wire.call('PTTL', 'purser:limit:a'))).toBeGreaterThan(0);
    });

    it.each([
      ['is no number', ['SET', 'purser:limit:a', 'many']],
      ['is of another type', ['HSET', 'purser:limit:a', 'x', '1']],
      ['is the last number there is', ['SET', 'purser:limit:a', '9223372036854775807']],
    ])('begins a window anew where the count %s', async (_, command) => {
      await server.wire.call(...command);
      const begun = { count: 1, resetsInSeconds: 60 };
      expect(await store.countInWindow('purser:limit:a', 60)).toEqual(begun);
      expect((await store.countInWindow('purser:limit:a', 60)).count).toBe(2);
    });

    it.each([
      ['a field is missing', ['HDEL', 'held']],
      ['a field is no number', ['HSET', 'available', 'many']],
      ['the version is no number', ['HSET', 'version', 'x']],
      ['the version is infinite', ['HSET', 'version', '1e999']],
      ['the version is beyond 2^53', ['HSET', 'version', '9007199254740993']],
      ['suspended is neither 0 nor 1', ['HSET', 'suspended', 'yes']],
      ['a field is empty', ['HSET', 'balance', '']],
    ])('counts as absent and is mended when %s', async (_, [verb = '', ...rest]) => {
      const record = mirrorRecord({ version: 7 });
      await store.writeMirror('u', record);
      await server.wire.call(verb, 'credits:{u}', ...rest);
      expect(await store.readMirror('u')).toBeNull();
      expect(await store.writeMirror('u', record)).toEqual({ outcome: 'applied' });
      expect(await store.readMirror('u')).toEqual(record);
    });

    it('counts a key of another type as absent and replaces it', async () => {
      await server.wire.call('SET', 'credits:{u}', '5');
      expect(await store.readMirror('u')).toBeNull();
      const { copies } = await store.scanMirrors(null);
      expect(copies).toEqual([{ userId: 'u', seen: null }]);
      expect(await store.writeMirror('u', mirrorRecord())).toEqual({ outcome: 'applied' });
      expect(await store.readMirror('u')).toEqual(mirrorRecord());
    });

    it('leaves keys that only look like ours out of a scan', async () => {
      await server.wire.call('HSET', 'credits:{a b}', 'version', '1');
      await server.wire.call('SET', 'credits:u', '1');
      await store.writeMirror('u', mirrorRecord());
      expect((await store.scanMirrors(null)).copies.map(({ userId }) => userId)).toEqual(['u']);
    });

    it('works on after scripts were flushed, single and in batches', async () => {
      await store.writeMirror('u', mirrorRecord({ version: 1 }));
      await server.wire.call('SCRIPT', 'FLUSH');
      expect(await store.writeMirror('u', mirrorRecord({ version: 2 }))).toEqual({
        outcome: 'applied',
      });
      await server.wire.call('SCRIPT', 'FLUSH');
      const copies = ['u', 'v', 'w'].map((userId) => ({
        userId,
        record: mirrorRecord({ version: 3 }),
      }));
      expect(await store.writeMirrors(copies)).toEqual(copies.map(() => ({ outcome: 'applied' })));
      expect((await store.readMirror('w'))?.version).toBe(3);
    });

    it('deletes a copy that a full Redis does not let it replace', async () => {
      await store.writeMirror('u', mirrorRecord({ version: 1 }));
      await server.wire.call('CONFIG', 'SET', 'maxmemory', '1');
      try {
        await expect(store.writeMirror('u', mirrorRecord({ version: 2 }))).rejects.toMatchObject({
          code: 'dependency_down',
          message: expect.stringContaining('OOM'),
        });
        expect(await store.readMirror('u')).toBeNull();
      } finally {
        await server.wire.call('CONFIG', 'SET', 'maxmemory', '0');
      }
      expect(await store.writeMirror('u', mirrorRecord({ version: 2 }))).toEqual({
        outcome: 'applied',
      });
    });
  });
});

describe('the key of a user', () => {
  it.each([
    ['550e8400-e29b-41d4-a716-446655440000', 'credits:{550e8400-e29b-41d4-a716-446655440000}'],
    ['a}b{c:d', 'credits:{a%7Db%7Bc%3Ad}'],
    ['ü*\n', 'credits:{%C3%BC%2A%0A}'],
    ['%7D', 'credits:{%257D}'],
  ])('of %j is %s, and leads back', (id, key) => {
    expect(creditsKey(id)).toBe(key);
    expect(userOfCreditsKey(key)).toBe(id);
  });

  it.each(['credits:{a b}', 'credits:{a%7d}', 'credits:u', 'credits:{u}x', 'credits:{%FF}'])(
    '%s is not one',
    (key) => {
      expect(userOfCreditsKey(key)).toBeNull();
    },
  );
});
