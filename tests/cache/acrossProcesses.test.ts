import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createStripeCache, type StripeCache } from '../../src/checkout/stripeCache.ts';
import type { Database } from '../../src/core/ports.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const KEY = 'stripe:prices';
const MINUTE = 60_000;

type Price = { amount: number };
const OLD: Price = { amount: 500 };
const NEW: Price = { amount: 700 };

const database = testDatabase();
let db: Database;
let nowMs = 0;
let behind: Promise<unknown>[] = [];
const clock = { now: () => new Date(nowMs) };

function newProcess(): StripeCache {
  return createStripeCache({
    db,
    clock,
    logger: silent,
    runAfterResponse: (work) => behind.push(work),
  });
}

/** Stripe before the change, and after it. */
const before = async () => OLD;
const after = async () => NEW;

/** Stripe's answer to one question: formed when it is asked, under way until `arrive`. */
function heldBack(answer: Price) {
  let arrive = () => {};
  const released = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  let hear = () => {};
  const asked = new Promise<void>((resolve) => {
    hear = resolve;
  });
  const load = async () => {
    hear();
    await released;
    return answer;
  };
  return { asked, arrive: () => arrive(), load };
}

/** What the process does that Stripe's event of the change was delivered to. */
async function hearOfChange(process: StripeCache, type = 'price.updated'): Promise<void> {
  await db.rpc('invalidate_stripe_cache_from_webhook', {
    p_event_type: type,
    p_object_id: 'price_1',
  });
  process.forget();
}

const storedNow = () =>
  callAsService(database.current, 'get_cached_stripe_data', {
    p_cache_key: KEY,
    p_now: clock.now().toISOString(),
  });

beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString, logger: silent });
});
afterAll(() => db.close());
beforeEach(async () => {
  behind = [];
  await callAsService(database.current, 'invalidate_stripe_cache', { p_pattern: '%' });
  nowMs = Date.parse('2026-03-01T08:00:00Z');
});

/** Why a process asks Stripe; the work ends when the answer was dealt with. */
const REASONS: [
  why: string,
  ask: (asker: StripeCache, load: () => Promise<Price>) => Promise<void>,
][] = [
  [
    'since nothing was kept',
    async (asker, load) => {
      await asker.read(KEY, load);
    },
  ],
  [
    'since what was kept has ended',
    async (asker, load) => {
      await newProcess().read(KEY, before);
      nowMs += 61 * MINUTE;
      await asker.read(KEY, load);
    },
  ],
  [
    'since what was kept does not fit any more',
    async (asker, load) => {
      await newProcess().read<Price>(KEY, async () => ({ amount: 1 }));
      await asker.read(KEY, load, ({ amount }) => amount > 1);
    },
  ],
  [
    'behind the back of a reader, near the end',
    async (asker, load) => {
      await newProcess().read(KEY, before);
      nowMs += 58 * MINUTE;
      await asker.read(KEY, load);
      await Promise.all(behind);
    },
  ],
  [
    'to warm what is in use',
    async (asker, load) => {
      let asked = 0;
      await asker.read(KEY, () => {
        asked += 1;
        return asked === 1 ? before() : load();
      });
      nowMs += 58 * MINUTE;
      await asker.warm();
    },
  ],
];

describe.each(REASONS)(
  'an answer asked for %s, before a change another process hears of',
  (_why, ask) => {
    it.each(['price.updated', 'product.updated'])('is kept nowhere after %s', async (type) => {
      const [asker, hearer] = [newProcess(), newProcess()];
      const answer = heldBack(OLD);
      const done = ask(asker, answer.load);
      await answer.asked;
      await hearOfChange(hearer, type);
      answer.arrive();
      await done;
      expect(await storedNow()).toBeNull();
      for (const process of [asker, hearer, newProcess()]) {
        expect(await process.read(KEY, after)).toEqual(NEW);
      }
      expect(await storedNow()).toEqual(NEW);
    });

    it('does not take the place of the new answer', async () => {
      const [asker, hearer] = [newProcess(), newProcess()];
      const answer = heldBack(OLD);
      const done = ask(asker, answer.load);
      await answer.asked;
      await hearOfChange(hearer);
      expect(await hearer.read(KEY, after)).toEqual(NEW);
      answer.arrive();
      await done;
      expect(await storedNow()).toEqual(NEW);
      for (const process of [asker, hearer, newProcess()]) {
        expect(await process.read(KEY, before)).toEqual(NEW);
      }
    });

    it('is kept nowhere when it arrives while the event is still being written', async () => {
      const [asker, hearer] = [newProcess(), newProcess()];
      const answer = heldBack(OLD);
      const done = ask(asker, answer.load);
      await answer.asked;
      await database.current.asRole('service_role', {}, async (client) => {
        await client.query(
          `select invalidate_stripe_cache_from_webhook('price.updated', 'price_1')`,
        );
        answer.arrive();
        await done;
      });
      hearer.forget();
      expect(await storedNow()).toBeNull();
      for (const process of [asker, hearer, newProcess()]) {
        expect(await process.read(KEY, after)).toEqual(NEW);
      }
    });

    it('is kept when the change was one of something else', async () => {
      const [asker, hearer] = [newProcess(), newProcess()];
      const answer = heldBack(NEW);
      const done = ask(asker, answer.load);
      await answer.asked;
      await hearOfChange(hearer, 'customer.updated');
      answer.arrive();
      await done;
      expect(await storedNow()).toEqual(NEW);
      expect(await asker.read(KEY, before)).toEqual(NEW);
    });
  },
);

describe('an answer asked for after the change', () => {
  it('stays, though the event is written only when it has arrived', async () => {
    const asker = newProcess();
    await database.current.asRole('service_role', {}, async (client) => {
      await client.query(`select invalidate_stripe_cache_from_webhook('price.updated', 'price_1')`);
      expect(await asker.read(KEY, after)).toEqual(NEW);
    });
    expect(await newProcess().read(KEY, after)).toEqual(NEW);
  });

  it('is stored when the one before it came to nothing', async () => {
    const asker = newProcess();
    const answer = heldBack(OLD);
    const done = asker.read(KEY, answer.load);
    await answer.asked;
    await hearOfChange(newProcess());
    answer.arrive();
    expect(await done).toEqual(OLD);
    expect(await asker.read(KEY, after)).toEqual(NEW);
    expect(await newProcess().read(KEY, before)).toEqual(NEW);
  });
});

describe('an answer of a process that could not look into the database before it asked', () => {
  it('is shown for a minute, and stored by nobody', async () => {
    let isAway = true;
    const flaky: Database = {
      ...db,
      rpc: (name, args, options) =>
        isAway ? Promise.reject(new Error('gone')) : db.rpc(name, args, options),
    };
    const asker = createStripeCache({ db: flaky, clock, logger: silent, runAfterResponse() {} });
    const answer = heldBack(OLD);
    const done = asker.read(KEY, answer.load);
    await answer.asked;
    await hearOfChange(newProcess());
    isAway = false;
    answer.arrive();
    expect(await done).toEqual(OLD);
    expect(await storedNow()).toBeNull();
    nowMs += MINUTE;
    expect(await asker.read(KEY, after)).toEqual(NEW);
    expect(await storedNow()).toEqual(NEW);
  });
});
