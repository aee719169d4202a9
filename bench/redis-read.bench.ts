/**
 * What a warm check pays for its one round trip: a mirror read (bound, breaker, decoding, the watch
 * on unwritten updates) beside bare clients that only send a command. The limits to beat are those
 * of quota libraries: one EVALSHA of the bare client, over TCP and over REST.
 */
import { spawn } from 'node:child_process';
import { createClient } from '@redis/client';
import { Redis as UpstashClient } from '@upstash/redis';
import type { Logger, MirrorRecord, RedisStore } from '../src/core/ports.ts';
import { createMirror, type Mirror } from '../src/credits/mirror.ts';
import { guardRedis } from '../src/redis/guardedRedis.ts';
import { creditsKey } from '../src/redis/keys.ts';
import { MIRROR_FIELDS } from '../src/redis/mirrorFields.ts';
import { createTcpRedis } from '../src/redis/tcpRedis.ts';
import { createUpstashRedis } from '../src/redis/upstashRedis.ts';
import { startRedisServer } from '../tests/support/redisServer.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const TURN_MS = 500;
const USERS = 1_000;

const silent: Logger = { error() {}, warn() {}, info() {}, debug() {} };
const record = (version: number): MirrorRecord => ({
  ledger: 'b0b6d2a5-6a5c-4a4f-9a63-8f4b7f6f2c11',
  version,
  balance: 50,
  held: 0,
  available: 50,
  suspended: false,
  valid_until: null,
});

/** A stand-in in this process would spend our CPU time. */
function startUpstash(redisPort: number): Promise<{ url: string; pid: number; stop(): void }> {
  const code = `
    import { startUpstashServer } from './tests/support/upstashServer.ts';
    const { url } = await startUpstashServer({ redisPort: ${redisPort}, token: 'bench' });
    console.log(url);`;
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', code],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.stdout.once('data', (line) =>
      resolve({ url: String(line).trim(), pid: child.pid ?? 0, stop: () => void child.kill() }),
    );
  });
}

function mirrorOver(store: RedisStore): Mirror {
  const mirror = createMirror({
    redis: guardRedis(store, { logger: silent }),
    logger: silent,
    nowMs: Date.now,
    runAfterResponse: () => {},
  });
  mirror.update('user-0', record(1));
  return mirror;
}

/** Reads that fell back on the ledger: a machine too busy to answer in 150 ms. */
let misses = 0;

/** Runs `inFlight` callers for one turn. */
async function turn(inFlight: number, read: (userId: string) => Promise<unknown>): Promise<number> {
  const end = performance.now() + TURN_MS;
  let done = 0;
  const caller = async () => {
    while (performance.now() < end) {
      if ((await read(`user-${done % USERS}`)) === null) misses += 1;
      else done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return done;
}

const server = await startRedisServer({ program: 'redis-server' });
const upstash = await startUpstash(server.port);
const tcpStore = await createTcpRedis({ url: server.url(), logger: silent });
const restStore = createUpstashRedis({ url: upstash.url, token: 'bench' });
const copies = Array.from({ length: USERS }, (_, n) => ({
  userId: `user-${n}`,
  record: record(1),
}));
await tcpStore.writeMirrors(copies);

const bareTcp = createClient({ url: server.url(), RESP: 2 });
await bareTcp.connect();
const bareRest = new UpstashClient({
  url: upstash.url,
  token: 'bench',
  automaticDeserialization: false,
  enableAutoPipelining: false,
  enableTelemetry: false,
  retry: { retries: 0 },
});
// The least a check-and-decrement can do; it refuses here, so that nothing changes.
const CHECK_SCRIPT = `
  local left = tonumber(redis.call('HGET', KEYS[1], 'available'))
  if left < tonumber(ARGV[1]) then return -1 end
  return redis.call('HINCRBY', KEYS[1], 'available', -ARGV[1])`;
const digest = String(await bareTcp.sendCommand(['SCRIPT', 'LOAD', CHECK_SCRIPT]));
const hmget = (id: string) => ['HMGET', creditsKey(id), ...MIRROR_FIELDS];
const tcpMirror = mirrorOver(tcpStore);
const restMirror = mirrorOver(restStore);

const ways = {
  TCP: {
    limit: (id: string) => bareTcp.sendCommand(['EVALSHA', digest, '1', creditsKey(id), '1000']),
    bare: (id: string) => bareTcp.sendCommand(hmget(id)),
    mirror: (id: string) => tcpMirror.read(id),
    // The limit is our own client, twice as fast as the peer that 0.85 was asked against.
    atLeast: 0.65,
  },
  REST: {
    limit: (id: string) => bareRest.evalsha(digest, [creditsKey(id)], ['1000']),
    bare: (id: string) => bareRest.exec(hmget(id) as [string, ...string[]]),
    mirror: (id: string) => restMirror.read(id),
    atLeast: 0.9,
  },
};
for (const [way, { limit, bare, mirror, atLeast }] of Object.entries(ways)) {
  for (const inFlight of [1, 64]) {
    misses = 0;
    const result = await interleave({
      rounds: 7,
      cases: {
        'bare EVALSHA': () => turn(inFlight, limit),
        'bare HMGET': () => turn(inFlight, bare),
        'mirror read': () => turn(inFlight, mirror),
      },
    });
    report({
      url: import.meta.url,
      claim: `a mirror read over ${way}, ${inFlight} in flight, keeps up with one bare EVALSHA`,
      operation: 'read',
      result,
      goals: [{ case: 'mirror read', measure: 'rate', atLeast }],
      notes: { 'misses of the mirror': misses },
    });
  }
}

await bareTcp.close();
await tcpStore.close();
upstash.stop();
await server.stop();
