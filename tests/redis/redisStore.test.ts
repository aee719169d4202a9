import { beforeEach, describe, expect, it } from '@jest/globals';
import type { MirrorRecord, RedisStore } from '../../src/core/ports.ts';
import { creditsKey } from '../../src/redis/keys.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';

/** What every adapter of the port keeps; each one is run through the same claims. */
const adapters: [string, (nowMs: () => number) => RedisStore][] = [
  ['memory', (nowMs) => createMemoryRedis({ nowMs })],
];

const record = (fields: Partial<MirrorRecord> = {}): MirrorRecord => ({
  ledger: 'ledger-a',
  version: 1,
  balance: 50,
  held: 0,
  available: 50,
  suspended: false,
  valid_until: null,
  ...fields,
});

describe.each(adapters)('the %s adapter', (_name, create) => {
  let now = 1_000_000;
  let redis: RedisStore;
  beforeEach(() => {
    now = 1_000_000;
    redis = create(() => now);
  });

  it('misses what was never written', async () => {
    expect(await redis.readMirror('u1')).toBeNull();
  });

  it('reads back every field', async () => {
    const written = record({
      version: 7,
      balance: -3,
      held: 2,
      available: -5,
      suspended: true,
      valid_until: 1_790_000_000_000,
    });
    expect(await redis.writeMirror('u1', written)).toBe('applied');
    expect(await redis.readMirror('u1')).toEqual(written);
  });

  it('keeps the newer version, whatever the order of arrival', async () => {
    await redis.writeMirror('u1', record({ version: 5, balance: 10 }));
    expect(await redis.writeMirror('u1', record({ version: 4, balance: 99 }))).toBe('stale');
    expect(await redis.writeMirror('u1', record({ version: 5, balance: 99 }))).toBe('stale');
    expect((await redis.readMirror('u1'))?.balance).toBe(10);
    expect(await redis.writeMirror('u1', record({ version: 6, balance: 3 }))).toBe('applied');
    expect((await redis.readMirror('u1'))?.balance).toBe(3);
  });

  it('compares versions as numbers up to 2^53 - 1', async () => {
    await redis.writeMirror('u1', record({ version: 9_007_199_254_740_990 }));
    expect(await redis.writeMirror('u1', record({ version: 9_007_199_254_740_991 }))).toBe(
      'applied',
    );
    expect(await redis.writeMirror('u1', record({ version: 10 }))).toBe('stale');
  });

  it('overwrites the copy of another ledger, even with a lower version', async () => {
    await redis.writeMirror('u1', record({ version: 900 }));
    expect(
      await redis.writeMirror('u1', record({ ledger: 'ledger-b', version: 1, balance: 5 })),
    ).toBe('applied');
    expect(await redis.readMirror('u1')).toMatchObject({ ledger: 'ledger-b', balance: 5 });
  });

  it('forgets a deleted user', async () => {
    await redis.writeMirror('u1', record());
    await redis.deleteMirror('u1');
    expect(await redis.readMirror('u1')).toBeNull();
  });

  it('sets a marker once until its time is over', async () => {
    expect(await redis.setMarker('processed:cs_1', 60)).toBe(true);
    expect(await redis.setMarker('processed:cs_1', 60)).toBe(false);
    expect(await redis.hasMarker('processed:cs_1')).toBe(true);
    expect(await redis.hasMarker('processed:cs_2')).toBe(false);
    now += 61_000;
    expect(await redis.hasMarker('processed:cs_1')).toBe(false);
    expect(await redis.setMarker('processed:cs_1', 60)).toBe(true);
    await redis.deleteMarker('processed:cs_1');
    expect(await redis.hasMarker('processed:cs_1')).toBe(false);
  });
});

describe('the key of a user', () => {
  it.each([
    ['550e8400-e29b-41d4-a716-446655440000', 'credits:{550e8400-e29b-41d4-a716-446655440000}'],
    ['a}b{c:d', 'credits:{a%7Db%7Bc%3Ad}'],
    ['ü*\n', 'credits:{%C3%BC%2A%0A}'],
    ['%7D', 'credits:{%257D}'],
  ])('of %j is %s', (id, key) => {
    expect(creditsKey(id)).toBe(key);
  });
});
