/** Limits that several servers keep together: two whole Pursers on one Redis, and what is left of them without it. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LIMITS } from '../../src/api/rateLimits.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { startFaultProxy } from '../support/faultProxy.ts';
import { testDatabase } from '../support/postgres.ts';
import { startRedisServer } from '../support/redisServer.ts';
import type { RedisWire } from '../support/redisWire.ts';
import { describeWith } from '../support/requirements.ts';
import {
  ADMIN_KEY,
  type CallAnswer,
  SERVICE_KEY,
  type Stack,
  startStack,
  waitFor,
} from '../support/stack.ts';
import { startUpstashServer } from '../support/upstashServer.ts';

const database = testDatabase();
/** Tries of a claim that a busy machine spoiled. */
const ATTEMPTS = 10;
const PER_PROCESS = 'Redis is away: each process counts wrong keys and checkouts by itself';
const SHARED_AGAIN = 'Wrong keys and checkouts are counted in Redis again';

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox();
});
afterAll(() => sandbox.stop());

interface Servers {
  stacks: [Stack, Stack];
  end(): Promise<void>;
}

async function startTwo(env: Record<string, string>): Promise<Servers> {
  const start = () =>
    startStack({
      connectionString: database.current.connectionString,
      sandbox,
      // Tests take an address each, as a proxy would tell it.
      env: { PURSER_TRUST_PROXY: '1', ...env },
    });
  const stacks: [Stack, Stack] = [await start(), await start()];
  return {
    stacks,
    async end() {
      for (const stack of stacks) await stack.stop();
    },
  };
}

let addresses = 0;
function nextAddress(): string {
  addresses += 1;
  return `198.18.${addresses >> 8}.${addresses & 255}`;
}

const guess = (stack: Stack, address: string, key = 'a-wrong-key') =>
  stack.call('GET', '/api/users/u1/credits', {
    bearer: key,
    headers: { 'x-forwarded-for': address },
  });

/** Wrong keys one after the other, over the servers in turn; the status of each. */
async function guesses(stacks: readonly Stack[], count: number, address: string) {
  const statuses: number[] = [];
  for (let n = 0; n < count; n += 1) {
    statuses.push((await guess(stacks[n % stacks.length] as Stack, address)).status);
  }
  return statuses;
}

async function expectLetIn(stack: Stack, address: string): Promise<void> {
  const headers = { 'x-forwarded-for': address };
  const admin = await stack.call('GET', '/api/admin/audit', { bearer: ADMIN_KEY, headers });
  expect(admin.status).toBe(200);
  // Nobody of that name, told to a key that is right.
  expect((await guess(stack, address, SERVICE_KEY)).status).toBe(404);
}

async function buy(stack: Stack, user: string): Promise<CallAnswer> {
  return stack.call('POST', '/api/checkout-session', {
    bearer: await stack.token(user),
    body: { plan: 'pack_50' },
  });
}

const times = (status: number, count: number) => Array<number>(count).fill(status);

function expectRefusal({ status, body, headers }: CallAnswer): void {
  expect({ status, code: body.code }).toEqual({ status: 429, code: 'rate_limited' });
  expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
  expect(Number(headers.get('retry-after'))).toBeLessThanOrEqual(60);
}

let users = 0;
function nextUser(): string {
  users += 1;
  return `limited-${users}`;
}

const MAX_WRONG = LIMITS.wrongKeysPerAddress;

interface SharedRedis {
  env: Record<string, string>;
  wire(): RedisWire;
  down(): Promise<void>;
  up(): Promise<void>;
  end(): Promise<void>;
}

async function openTcp(program: string): Promise<SharedRedis> {
  const server = await startRedisServer({ program });
  const proxy = await startFaultProxy({ port: server.port });
  return {
    env: { REDIS_URL: proxy.through(server.url()) },
    wire: () => server.wire,
    async down() {
      await server.kill();
      proxy.cutAll();
    },
    up: () => server.start(),
    async end() {
      await proxy.close();
      await server.stop();
    },
  };
}

async function openUpstash(program: string): Promise<SharedRedis> {
  const server = await startRedisServer({ program });
  const upstash = await startUpstashServer({ redisPort: server.port });
  return {
    env: { UPSTASH_REDIS_REST_URL: upstash.url, UPSTASH_REDIS_REST_TOKEN: upstash.token },
    wire: () => server.wire,
    down: async () => upstash.setFault('refuse'),
    up: async () => upstash.clearFault(),
    async end() {
      await upstash.close();
      await server.stop();
    },
  };
}

describeWith('redis-server', 'two servers on one Redis', (program) => {
  describe.each([
    ['TCP', openTcp],
    ['Upstash REST', openUpstash],
  ] as const)('over %s', (_name, open) => {
    let redis: SharedRedis;
    let servers: Servers;
    beforeAll(async () => {
      redis = await open(program);
      servers = await startTwo(redis.env);
    });
    afterAll(async () => {
      await servers.end();
      await redis.end();
    });

    const limitKeys = async () => (await redis.wire().call('KEYS', 'purser:limit:*')) as string[];
    const told = (stack: Stack, line: string) =>
      stack.logs.filter(({ message }) => message === line).length;
    const countsAlone = (stack: Stack) => told(stack, PER_PROCESS) > told(stack, SHARED_AGAIN);

    /** A server that has given Redis up looks for it again once a second. */
    async function bothShare(): Promise<void> {
      for (const stack of servers.stacks) {
        await waitFor(async () => {
          const before = await limitKeys();
          await guess(stack, nextAddress());
          return (await limitKeys()).length > before.length && !countsAlone(stack);
        }, 'a count in Redis');
      }
    }

    /**
     * What servers keep together while Redis answers. On a busy machine it may answer too late for
     * the guard, and a server says so; or a minute may end. Then the claim is tried from the start.
     */
    async function whileShared(claim: () => Promise<void>): Promise<void> {
      const warnings = () =>
        told(servers.stacks[0], PER_PROCESS) + told(servers.stacks[1], PER_PROCESS);
      for (let attempt = 1; ; attempt += 1) {
        await bothShare();
        const before = warnings();
        const began = performance.now();
        try {
          await claim();
          return;
        } catch (error) {
          const spoiled = warnings() !== before || performance.now() - began > 60_000;
          if (!spoiled || attempt === ATTEMPTS) throw error;
        }
      }
    }

    it('let an address try ten wrong keys, whichever is asked, and never hold up a right one', () =>
      whileShared(async () => {
        const address = nextAddress();
        expect(await guesses(servers.stacks, MAX_WRONG, address)).toEqual(times(401, MAX_WRONG));
        for (const stack of servers.stacks) {
          expectRefusal(await guess(stack, address));
          await expectLetIn(stack, address);
        }
        expect((await guess(servers.stacks[1], nextAddress())).status).toBe(401);
      }));

    it('let a user open 60 checkouts, whichever is asked, and another one his own', () =>
      whileShared(async () => {
        const [one, other] = servers.stacks;
        const user = nextUser();
        for (let n = 0; n < LIMITS.checkoutsPerUser; n += 1) {
          expect((await buy(servers.stacks[n % 2] as Stack, user)).status).toBe(200);
        }
        expectRefusal(await buy(one, user));
        expectRefusal(await buy(other, user));
        expect((await buy(other, nextUser())).status).toBe(200);
      }));

    it('keep counts that end by themselves, under names that show neither address nor user', () =>
      whileShared(async () => {
        await guess(servers.stacks[0], '198.51.100.77');
        await buy(servers.stacks[0], nextUser());
        const keys = await limitKeys();
        expect(keys.join(' ')).not.toMatch(/198\.|limited-/);
        for (const key of keys) {
          expect(key).toMatch(/^purser:limit:(wrong-keys|checkouts):[A-Za-z0-9_-]{22}$/);
          const left = Number(await redis.wire().call('PTTL', key));
          // It may have ended since it was listed: -2. One without an end would be -1.
          expect(left === -2 || (left >= 0 && left <= 60_000)).toBe(true);
        }
      }));

    it('ask Redis nothing about an address they have found above the limit themselves', () =>
      whileShared(async () => {
        const [one] = servers.stacks;
        const address = nextAddress();
        const before = new Set(await limitKeys());
        await guesses([one], 3 * MAX_WRONG, address);
        const key = (await limitKeys()).find((name) => !before.has(name)) ?? '';
        expect(await redis.wire().call('GET', key)).toBe(String(MAX_WRONG));
      }));

    it('hold their own limit while Redis is gone, break nothing, and share it again after', async () => {
      await bothShare();
      const address = nextAddress();
      const [one, other] = servers.stacks;
      expect(await guesses(servers.stacks, 4, address)).toEqual(times(401, 4));
      await redis.down();
      const warnings = servers.stacks.map((stack) => told(stack, PER_PROCESS));
      for (const stack of servers.stacks) {
        // Two of the four were its own.
        const more = MAX_WRONG - 2;
        expect(await guesses([stack], more, address)).toEqual(times(401, more));
        expectRefusal(await guess(stack, address));
        await expectLetIn(stack, address);
        expect((await buy(stack, nextUser())).status).toBe(200);
      }
      for (const [index, stack] of servers.stacks.entries()) {
        expect(countsAlone(stack)).toBe(true);
        // Told once, however many were counted.
        expect(told(stack, PER_PROCESS)).toBeLessThanOrEqual((warnings[index] ?? 0) + 1);
      }
      await redis.up();
      await whileShared(async () => {
        const later = nextAddress();
        expect(await guesses(servers.stacks, MAX_WRONG, later)).toEqual(times(401, MAX_WRONG));
        expectRefusal(await guess(one, later));
        expectRefusal(await guess(other, later));
      });
    });
  });
});

describe('two servers without a Redis', () => {
  let servers: Servers;
  beforeAll(async () => {
    servers = await startTwo({});
  });
  afterAll(() => servers.end());

  it('let an address try ten wrong keys each', async () => {
    const address = nextAddress();
    for (const stack of servers.stacks) {
      expect(await guesses([stack], MAX_WRONG, address)).toEqual(times(401, MAX_WRONG));
      expectRefusal(await guess(stack, address));
      await expectLetIn(stack, address);
    }
  });
});
