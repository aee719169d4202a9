import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { RedisStore } from '../../src/core/ports.ts';
import { createMirror, type Mirror } from '../../src/credits/mirror.ts';
import { FAILURES_TO_OPEN } from '../../src/redis/breaker.ts';
import { guardRedis } from '../../src/redis/guardedRedis.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createUpstashRedis } from '../../src/redis/upstashRedis.ts';
import { mirrorRecord, OTHER_LEDGER } from '../support/redisContract.ts';
import { collectLines } from '../support/redisLogger.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { waitFor } from '../support/stack.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

const NOW = 1_800_000_000_000;

describe('the mirror', () => {
  let store: RedisStore;
  let mirror: Mirror;
  let now: number;
  beforeEach(() => {
    now = NOW;
    store = createMemoryRedis({ nowMs: () => now });
    mirror = createMirror({
      redis: store,
      logger: collectLines().logger,
      nowMs: () => now,
      runAfterResponse: () => {},
    });
  });

  it('believes no copy before it knows the ledger’s name', async () => {
    await store.writeMirror('u', mirrorRecord());
    expect(await mirror.read('u')).toBeNull();
    mirror.update('other', mirrorRecord());
    expect(await mirror.read('u')).toEqual(mirrorRecord());
  });

  it('believes no copy of another ledger, and puts its own in its place', async () => {
    mirror.update('u', mirrorRecord({ version: 2 }));
    await mirror.idle();
    await store.deleteMirror('u');
    await store.writeMirror('u', mirrorRecord({ ledger: OTHER_LEDGER, version: 900 }));
    expect(await mirror.read('u')).toBeNull();
    mirror.update('u', mirrorRecord({ version: 2 }));
    await mirror.idle();
    expect(await mirror.read('u')).toEqual(mirrorRecord({ version: 2 }));
  });

  it('ends a copy at its valid_until', async () => {
    mirror.update('u', mirrorRecord({ valid_until: NOW + 1 }));
    expect(await mirror.read('u')).not.toBeNull();
    now = NOW + 1;
    expect(await mirror.read('u')).toBeNull();
  });

  it('keeps the newest of updates that arrive in any order', async () => {
    for (const version of [3, 1, 7, 5, 7, 2]) {
      mirror.update('u', mirrorRecord({ version, balance: version }));
    }
    await mirror.idle();
    expect(await store.readMirror('u')).toMatchObject({ version: 7, balance: 7 });
  });
});

describeWith('redis-server', 'the mirror over a network', (program) => {
  let server: RedisServer;
  let upstash: UpstashServer;
  let store: RedisStore;
  let mirror: Mirror;
  let lines: string[];
  let clock: number;
  beforeAll(async () => {
    server = await startRedisServer({ program });
    upstash = await startUpstashServer({ redisPort: server.port });
  });
  afterAll(async () => {
    await upstash.close();
    await server.stop();
  });
  beforeEach(async () => {
    upstash.clearFault();
    upstash.setDelay(0);
    await server.wire.call('FLUSHALL');
    store = createUpstashRedis(upstash);
    await store.writeMirror('u', mirrorRecord({ version: 1, balance: 1 }));
    const collected = collectLines();
    lines = collected.lines;
    clock = 0;
    const redis = guardRedis(store, { logger: collected.logger, nowMs: () => clock });
    mirror = createMirror({
      redis,
      logger: collected.logger,
      nowMs: () => NOW,
      runAfterResponse: () => {},
    });
    mirror.update('other', mirrorRecord());
    await mirror.idle();
  });

  it('never reads behind an update of its own that is still on its way', async () => {
    upstash.setDelay(20);
    for (let version = 2; version < 12; version += 1) {
      mirror.update('u', mirrorRecord({ version, balance: version }));
      expect(await mirror.read('u')).toMatchObject({ version, balance: version });
    }
    await mirror.idle();
    expect(await store.readMirror('u')).toMatchObject({ version: 11 });
  });

  it('serves a newer copy of another process rather than its own on the way', async () => {
    await store.writeMirror('u', mirrorRecord({ version: 9, balance: 9 }));
    upstash.setDelay(20);
    mirror.update('u', mirrorRecord({ version: 2, balance: 2 }));
    expect(await mirror.read('u')).toMatchObject({ version: 9, balance: 9 });
    await mirror.idle();
  });

  it('asks the ledger for a user whose update was lost, until one arrives', async () => {
    upstash.setFault('html', 1);
    mirror.update('u', mirrorRecord({ version: 2 }));
    await mirror.idle();
    expect(await store.readMirror('u')).toMatchObject({ version: 1 });
    expect(await mirror.read('u')).toBeNull();
    expect(await mirror.read('other')).not.toBeNull();
    mirror.update('u', mirrorRecord({ version: 2 }));
    await mirror.idle();
    expect(await mirror.read('u')).toMatchObject({ version: 2 });
  });

  it('asks a Redis that is down five times, then once a second, and says it once', async () => {
    upstash.setFault('refuse');
    for (let call = 0; call < FAILURES_TO_OPEN; call += 1) {
      expect(await mirror.read('u')).toBeNull();
    }
    upstash.setFault('html');
    const seen = () => upstash.requests.length;
    const before = seen();
    await Promise.all(Array.from({ length: 50 }, () => mirror.read('u')));
    mirror.update('u', mirrorRecord({ version: 2 }));
    await mirror.idle();
    expect(seen()).toBe(before);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^warn: Redis is not asked for now/);

    upstash.clearFault();
    clock += 1_000;
    expect(await mirror.read('other')).not.toBeNull();
    expect(lines[1]).toBe('info: Redis answers again');
    // The update that Redis missed is still known to be missing.
    expect(await mirror.read('u')).toBeNull();
  });

  it('opens for a black hole too, without keeping callers', async () => {
    upstash.setFault('hang');
    expect(
      await Promise.all(Array.from({ length: FAILURES_TO_OPEN }, () => mirror.read('u'))),
    ).toEqual(Array(FAILURES_TO_OPEN).fill(null));
    await waitFor(() => lines.length > 0, 'the breaker to open');
    const before = upstash.requests.length;
    expect(await mirror.read('u')).toBeNull();
    expect(upstash.requests.length).toBe(before);
  });
});
