import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';
import type { RedisStore } from '../../src/core/ports.ts';
import { guardRedis } from '../../src/redis/guardedRedis.ts';
import { createScripts, locksKeys } from '../../src/redis/scripts.ts';
import { createUpstashRedis } from '../../src/redis/upstashRedis.ts';
import { mirrorRecord } from '../support/redisContract.ts';
import { collectLines } from '../support/redisLogger.ts';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { waitFor } from '../support/stack.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

describeWith('redis-server', 'Redis over Upstash REST', (program) => {
  let server: RedisServer;
  let upstash: UpstashServer;
  let store: RedisStore;

  beforeAll(async () => {
    server = await startRedisServer({ program });
    upstash = await startUpstashServer({ redisPort: server.port });
    store = createUpstashRedis(upstash);
  });
  afterAll(async () => {
    await upstash.close();
    await server.stop();
  });
  beforeEach(async () => {
    upstash.clearFault();
    upstash.setDelay(0);
    await server.wire.call('FLUSHALL');
    // Loads the scripts: the first call of each costs a second request.
    await store.writeMirror('u', mirrorRecord({ version: 1 }));
    await store.removeMirror('nobody', { ledger: 'x', version: 1 });
    await store.moveCursor('job', null, 'a');
    await store.countInWindow('purser:limit:b', 60);
    upstash.requests.length = 0;
  });

  const operations: [string, () => Promise<unknown>, number][] = [
    ['readMirror', () => store.readMirror('u'), 1],
    ['writeMirror', () => store.writeMirror('u', mirrorRecord({ version: 2 })), 1],
    [
      'writeMirrors',
      () =>
        store.writeMirrors(
          Array.from({ length: 1000 }, (_, n) => ({ userId: `u${n}`, record: mirrorRecord() })),
        ),
      1,
    ],
    ['deleteMirror', () => store.deleteMirror('u'), 1],
    ['removeMirror', () => store.removeMirror('u', { ledger: 'x', version: 1 }), 1],
    ['scanMirrors', () => store.scanMirrors(null), 2],
    ['readCursor', () => store.readCursor('job'), 1],
    ['moveCursor', () => store.moveCursor('job', 'a', 'b'), 1],
    ['setMarker', () => store.setMarker('processed:cs', 60), 1],
    ['hasMarker', () => store.hasMarker('processed:cs'), 1],
    ['deleteMarker', () => store.deleteMarker('processed:cs'), 1],
    ['countInWindow', () => store.countInWindow('purser:limit:a', 60), 1],
    ['ping', () => store.ping(), 1],
  ];

  it.each(operations)('%s is one request, or as many as the port says', async (_, run, count) => {
    await run();
    expect(upstash.requests).toHaveLength(count);
  });

  it.each(operations)('%s is right when the answer to it was lost', async (_, run, count) => {
    upstash.setFault('drop_reply', 1);
    await run();
    expect(upstash.requests).toHaveLength(count + 1);
  });

  it('writes once more when the connection broke, and the newest copy stands', async () => {
    for (let version = 2; version < 30; version += 1) {
      upstash.setFault(version % 2 ? 'drop_reply' : 'refuse', 1);
      const written = await store.writeMirror('u', mirrorRecord({ version, balance: version }));
      expect(['applied', 'equal']).toContain(written.outcome);
    }
    expect(await store.readMirror('u')).toMatchObject({ version: 29, balance: 29 });
  });

  it('gives up after the second break', async () => {
    upstash.setFault('refuse');
    await expect(store.readMirror('u')).rejects.toMatchObject({ code: 'dependency_down' });
    expect(upstash.requests).toHaveLength(0);
  });

  it('calls a gateway page what it is, without repeating it', async () => {
    upstash.setFault('html', 1);
    const error = await store.readMirror('u').catch((caught: Error) => caught);
    expect(error).toMatchObject({
      code: 'dependency_down',
      message: expect.stringContaining('not JSON'),
    });
    expect(String(error)).not.toMatch(/Bad gateway/);
  });

  it('says that the token is wrong, and neither shows it nor what was sent', async () => {
    const wrong = createUpstashRedis({ url: upstash.url, token: 'a-wrong-token' });
    for (const run of [
      () => wrong.readMirror('ann@example.com'),
      () => wrong.writeMirrors([{ userId: 'ann@example.com', record: mirrorRecord() }]),
    ]) {
      const error = (await run().catch((caught: Error) => caught)) as Error;
      expect(error).toMatchObject({ code: 'dependency_down' });
      expect(error.message).toMatch(/WRONGPASS/);
      expect(`${error.stack} ${(error.cause as Error).stack}`).not.toMatch(
        /a-wrong-token|ann|credits:/,
      );
    }
  });

  it('sends no telemetry, asks for base64, and hands the sync token back', async () => {
    await store.readMirror('u');
    await store.readMirror('u');
    const headers = upstash.requests[1]?.headers ?? {};
    expect(Object.keys(headers).filter((name) => name.includes('telemetry'))).toEqual([]);
    expect(headers['upstash-encoding']).toBe('base64');
    expect(headers['upstash-sync-token']).toMatch(/^test:\d+$/);
  });

  it('does not keep a caller of the guarded store waiting for an answer that never comes', async () => {
    upstash.setFault('hang', 1);
    const guarded = guardRedis(store, { logger: collectLines().logger });
    await expect(guarded.readMirror('u')).rejects.toMatchObject({
      code: 'dependency_down',
      message: 'Redis did not answer within 150 ms.',
    });
    // Afterwards it answers again; a loaded machine may miss the bound once more before it does.
    const answered = await waitFor(
      () => guarded.readMirror('u').catch(() => null),
      'an answer within the bound',
    );
    expect(answered).toMatchObject({ ledger: expect.any(String) });
  });

  it.each([
    ['https://eu1-cat-1.upstash.io', true],
    ['rediss://default:pw@eu1-cat-1.upstash.io:6379', true],
    ['http://127.0.0.1:8079', false],
    ['redis://localhost:6379/0', false],
    ['https://upstash.io.example.com', false],
    ['https://notupstash.io', false],
  ])('marks scripts as locking their keys only on Upstash: %s', async (url, expected) => {
    expect(locksKeys(url)).toBe(expected);
    const sent: string[][] = [];
    const connection = {
      send: async (command: string[]) => {
        sent.push(command);
        return 'applied';
      },
      sendAll: async () => [],
      close: async () => {},
    };
    const call = { keys: ['k'], args: [] };
    await createScripts(connection, true).run('moveCursor', call);
    await createScripts(connection, false).run('moveCursor', call);
    expect(sent[0]?.[1]).not.toBe(sent[1]?.[1]);
  });

  it('is refused by Redis itself when a script is marked', async () => {
    const marked = createUpstashRedis({ ...upstash, keyLocking: true });
    await expect(marked.writeMirror('u', mirrorRecord())).rejects.toMatchObject({
      message: expect.stringContaining('flag'),
    });
  });
});
