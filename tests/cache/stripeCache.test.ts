import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createStripeCache, type StripeCache } from '../../src/checkout/stripeCache.ts';
import type { Database } from '../../src/core/ports.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const KEY = 'stripe:prices';
const MINUTE = 60_000;

const database = testDatabase();
let db: Database;
let nowMs = 0;
let calls = 0;
let behind: Promise<unknown>[] = [];
const clock = { now: () => new Date(nowMs) };

/** Stripe, as far as a cache sees it: an answer that tells how often it was asked. */
async function load(): Promise<{ version: number }> {
  calls += 1;
  return { version: calls };
}

function newProcess(port: Database = db): StripeCache {
  return createStripeCache({
    db: port,
    clock,
    logger: silent,
    runAfterResponse: (work) => behind.push(work),
  });
}

async function settle(): Promise<void> {
  const running = behind;
  behind = [];
  await Promise.all(running);
}

beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString, logger: silent });
});
afterAll(() => db.close());
beforeEach(async () => {
  await settle();
  await callAsService(database.current, 'invalidate_stripe_cache', { p_pattern: '%' });
  nowMs = Date.parse('2026-03-01T08:00:00Z');
  calls = 0;
});

describe('the cache of Stripe answers', () => {
  it('asks once for a crowd, and once for all processes', async () => {
    const [one, two] = [newProcess(), newProcess()];
    const answers = await Promise.all(Array.from({ length: 50 }, () => one.read(KEY, load)));
    expect(new Set(answers.map(({ version }) => version))).toEqual(new Set([1]));
    expect(await two.read(KEY, load)).toEqual({ version: 1 });
    expect(calls).toBe(1);
  });

  it('asks once for two that found nothing in the database, however late one of them hears so', async () => {
    let looked = () => {};
    const bothLooked = new Promise<void>((resolve) => {
      looked = resolve;
    });
    let looks = 0;
    const slow: Database = {
      ...db,
      async rpc(name, args, options) {
        if (name !== 'read_stripe_cache') return db.rpc(name, args, options);
        looks += 1;
        const isLate = looks === 2;
        const answer = await db.rpc(name, args, options);
        if (isLate) looked();
        await (isLate ? first : bothLooked);
        return answer as never;
      },
    };
    const one = newProcess(slow);
    const first = one.read(KEY, load);
    expect(await Promise.all([first, one.read(KEY, load)])).toEqual([
      { version: 1 },
      { version: 1 },
    ]);
    expect(calls).toBe(1);
  });

  it('shows a change within a minute in other processes, at once in the one that heard of it', async () => {
    const [hears, other] = [newProcess(), newProcess()];
    await hears.read(KEY, load);
    await other.read(KEY, load);
    await db.rpc('invalidate_stripe_cache_from_webhook', {
      p_event_type: 'price.updated',
      p_object_id: 'price_1',
    });
    hears.forget();
    expect(await hears.read(KEY, load)).toEqual({ version: 2 });
    expect(await other.read(KEY, load)).toEqual({ version: 1 });
    nowMs += MINUTE;
    expect(await other.read(KEY, load)).toEqual({ version: 2 });
    expect(calls).toBe(2);
  });

  it('does not keep an answer that was asked for before the change', async () => {
    const cache = newProcess();
    let answer: (value: { version: number }) => void = () => {};
    const asked = new Promise<void>((called) => {
      void cache
        .read(KEY, () => {
          called();
          return new Promise<{ version: number }>((resolve) => {
            answer = resolve;
          });
        })
        .then((value) => expect(value).toEqual({ version: 0 }));
    });
    await asked;
    cache.forget();
    answer({ version: 0 });
    expect(await cache.read(KEY, load)).toEqual({ version: 1 });
  });

  it('renews behind the back of a reader who comes near the end', async () => {
    const cache = newProcess();
    await cache.read(KEY, load);
    nowMs += 56 * MINUTE;
    expect(await cache.read(KEY, load)).toEqual({ version: 1 });
    await settle();
    expect(calls).toBe(2);
    nowMs += 30 * MINUTE;
    expect(await cache.read(KEY, load)).toEqual({ version: 2 });
    expect(cache.counts()).toEqual({ hits: 2, misses: 1, renewals: 1, stale: 0 });
  });

  it('warms what is in use before its end, so that a quiet hour costs nobody a wait', async () => {
    const cache = newProcess();
    await cache.read(KEY, load);
    expect(await cache.warm()).toEqual({ renewed: 0 });
    nowMs += 58 * MINUTE;
    expect(await cache.warm()).toEqual({ renewed: 1 });
    nowMs += 10 * MINUTE;
    expect(await cache.read(KEY, load)).toEqual({ version: 2 });
    expect(cache.counts().misses).toBe(1);
  });

  it('shows the last answer for an hour while Stripe is away, then says so', async () => {
    const cache = newProcess();
    await cache.read(KEY, load);
    const away = () => Promise.reject(new Error('Stripe is away'));
    nowMs += 90 * MINUTE;
    expect(await cache.read(KEY, away)).toEqual({ version: 1 });
    expect(await newProcess().read(KEY, away)).toEqual({ version: 1 });
    nowMs += 31 * MINUTE;
    await expect(cache.read(KEY, away)).rejects.toThrow('Stripe is away');
  });

  it('passes over an answer that does not fit any more', async () => {
    await newProcess().read(KEY, load);
    const changed = (value: { version: number }) => value.version > 1;
    expect(await newProcess().read(KEY, load, changed)).toEqual({ version: 2 });
  });

  it('asks Stripe when the database is away', async () => {
    const gone: Database = { ...db, rpc: () => Promise.reject(new Error('gone')) };
    const cache = newProcess(gone);
    expect(await cache.read(KEY, load)).toEqual({ version: 1 });
    expect(await cache.read(KEY, load)).toEqual({ version: 1 });
  });

  it('adds its hits to the table once a minute', async () => {
    const cache = newProcess();
    await cache.read(KEY, load);
    for (let visit = 0; visit < 9; visit += 1) await cache.read(KEY, load);
    nowMs += MINUTE;
    await cache.read(KEY, load);
    await settle();
    const [row] = await database.current.query<{ access_count: string }>(
      'select access_count from cache_store',
    );
    expect(Number(row?.access_count)).toBe(10);
  });

  it('spares at least 90 % of the calls of a day, and hits above 80 %', async () => {
    // A day of a small shop: three processes, a visit every 20 s on average (each would be a call
    // without a cache), restarts every six hours, and 30 changes of products and prices.
    let seed = 7;
    const random = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed / 2_147_483_648;
    };
    let processes = [newProcess(), newProcess(), newProcess()];
    const total = { hits: 0, misses: 0, renewals: 0, stale: 0 };
    const retire = (caches: StripeCache[]) => {
      for (const cache of caches) {
        const counts = cache.counts();
        for (const name of ['hits', 'misses', 'renewals', 'stale'] as const)
          total[name] += counts[name];
      }
    };
    const endsAt = nowMs + 24 * 60 * MINUTE;
    let visits = 0;
    let restartsAt = nowMs + 6 * 60 * MINUTE;
    while (nowMs < endsAt) {
      nowMs += -Math.log(1 - random()) * 20_000;
      if (nowMs >= restartsAt) {
        restartsAt += 6 * 60 * MINUTE;
        retire(processes);
        processes = [newProcess(), newProcess(), newProcess()];
      }
      const cache = processes[Math.floor(random() * processes.length)] as StripeCache;
      if (random() < 30 / 4320) {
        await callAsService(database.current, 'invalidate_stripe_cache', {
          p_pattern: 'stripe:price%',
        });
        cache.forget();
      }
      await cache.read(KEY, load);
      await settle();
      visits += 1;
    }
    retire(processes);
    const hitRate = total.hits / (total.hits + total.misses);
    expect(visits).toBeGreaterThan(4_000);
    expect(total.hits + total.misses).toBe(visits);
    expect(calls).toBe(total.misses + total.renewals);
    expect(calls / visits).toBeLessThan(0.1);
    expect(hitRate).toBeGreaterThan(0.8);
  });
});
