/** Spends that come together, on a real database: each caller's answer is its own, and exact. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { PurserError } from '../../src/core/errors.ts';
import type { Database, MirrorWrite, RedisStore } from '../../src/core/ports.ts';
import {
  type CoalescedCall,
  QUEUED_MAX,
  QUEUED_PER_USER_MAX,
} from '../../src/credits/coalescer.ts';
import { createMirror } from '../../src/credits/mirror.ts';
import { createSpending, type Spending } from '../../src/credits/spending.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { collectLines } from '../support/redisLogger.ts';
import { callAsService, concurrently, countBy } from '../support/sqlCall.ts';
import { waitFor } from '../support/stack.ts';

const database = testDatabase();
let db: Database;
beforeAll(() => {
  db = createPgDatabase({ connectionString: database.current.connectionString });
});
afterAll(() => db.close());
afterEach(async () => {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});

interface World {
  spending: Spending;
  calls: CoalescedCall[];
  /** Round trips that wrote copies: how many each. */
  copies: number[];
  redis: RedisStore;
  mirrorIdle(): Promise<void>;
}

function open(): World {
  const calls: CoalescedCall[] = [];
  const copies: number[] = [];
  const store = createMemoryRedis({ nowMs: Date.now });
  const redis: RedisStore = {
    ...store,
    async writeMirror(userId, record): Promise<MirrorWrite> {
      copies.push(1);
      return store.writeMirror(userId, record);
    },
    async writeMirrors(all) {
      copies.push(all.length);
      return store.writeMirrors(all);
    },
  };
  const mirror = createMirror({
    redis,
    logger: collectLines().logger,
    nowMs: Date.now,
    runAfterResponse: () => {},
  });
  const spending = createSpending({
    db,
    mirror,
    buyUrl: () => 'http://purser.test/pricing',
    runAfterResponse: () => {},
    observeCall: (call) => calls.push(call),
  });
  return { spending, calls, copies, redis, mirrorIdle: () => mirror.idle() };
}

let count = 0;
async function holder(credits = 1_000): Promise<string> {
  count += 1;
  const user = `holder-${count}`;
  await callAsService(database.current, 'ensure_user', { p_user_id: user });
  if (credits > 0) {
    await callAsService(database.current, 'grant_credits', {
      p_user_id: user,
      p_type: 'bonus',
      p_key: 'grant:1',
      p_lots: [{ credits }],
    });
  }
  return user;
}

const holders = async (n: number) => {
  const users: string[] = [];
  for (let index = 0; index < n; index += 1) users.push(await holder());
  return users;
};

const consume = ({ spending }: World, userId: string, amount: number, idempotencyKey: string) =>
  spending.consume({ userId, amount, idempotencyKey });

/** What a spend was answered: the word, or the code of its error. */
const wordOf = (answer: Promise<{ replayed: boolean }>) =>
  answer.then(
    ({ replayed }) => (replayed ? 'replayed' : 'applied'),
    (error: unknown) => (error instanceof PurserError ? error.code : String(error)),
  );

const entriesOf = (user: string) =>
  database.current.query<{ key: string }>(
    `select idempotency_key as key from credit_transactions
     where user_id = $1 and transaction_type = 'usage' order by entry_number`,
    [user],
  );

/** Runs `work` while another session holds these users' rows. */
async function whileLocked<T>(users: string[], work: (release: () => Promise<void>) => Promise<T>) {
  const other = new pg.Client({ connectionString: database.current.connectionString });
  await other.connect();
  const release = async () => void (await other.query('rollback'));
  try {
    await other.query('begin');
    await other.query('select from users where id::text = any ($1) for update', [users]);
    return await work(release);
  } finally {
    await other.end();
  }
}

describe('answers', () => {
  /** Every outcome; each user's spends in this order. */
  const SPENDS: [user: string, amount: number, key: string, expected: string][] = [
    ['rich', 7, 'a', 'applied'],
    ['rich', 7, 'a', 'replayed'],
    ['rich', 8, 'a', 'idempotency_key_reused'],
    ['rich', 1_000, 'b', 'insufficient_credits'],
    ['rich', 993, 'b', 'applied'],
    ['poor', 1, 'a', 'insufficient_credits'],
    ['suspended', 30, 'a', 'suspended'],
    ['suspended', 20, 'a', 'applied'],
    ['suspended', 31, 'b', 'insufficient_credits'],
    ['nobody', 1, 'a', 'user_not_found'],
  ];

  async function cast(): Promise<Record<string, string>> {
    const [rich, poor, suspended] = [await holder(1_000), await holder(0), await holder(20)];
    await callAsService(database.current, 'grant_credits', {
      p_user_id: suspended,
      p_type: 'allocation',
      p_key: `invoice:in_${suspended}`,
      p_sources: [`invoice:in_${suspended}`],
      p_lots: [{ credits: 30, from_plan: true, priority: 1 }],
    });
    await database.current.query(`begin; set local role purser_ledger;
      update users set credits_suspended = true, credits_version = credits_version + 1
      where id = '${suspended}'; commit`);
    return { rich, poor, suspended, nobody: `nobody-${count}` };
  }

  /** The answer or error as its caller sees it, without what differs between two users. */
  const seen = (user: string, answer: Promise<unknown>) =>
    answer.then(
      (value) => tidy(user, value),
      (error: unknown) => {
        if (!(error instanceof PurserError)) throw error;
        const { code, message, extensions } = error;
        return tidy(user, { code, message, extensions });
      },
    );
  const tidy = (user: string, value: unknown) =>
    JSON.parse(
      JSON.stringify(value)
        .replaceAll(user, 'USER')
        .replaceAll(/"(transaction_id|grant_id|created_at)":"[^"]+"/g, '"$1":"..."'),
    );

  it('are the same alone and in a batch, for every outcome', async () => {
    const alone = open();
    const first = await cast();
    const oneByOne: unknown[] = [];
    for (const [who, amount, key] of SPENDS) {
      const user = first[who] ?? '';
      oneByOne.push(await seen(user, consume(alone, user, amount, key)));
    }
    expect(alone.calls).toEqual(SPENDS.map(() => ({ operations: 1, alone: true, waiting: 0 })));

    const together = open();
    const second = await cast();
    // Four single spends and one shared call take up all lanes; what follows is one batch.
    const others = await holders(5);
    const ahead = others.map((user) => consume(together, user, 1, 'ahead'));
    const batched = await Promise.all(
      SPENDS.map(([who, amount, key]) => {
        const user = second[who] ?? '';
        return seen(user, consume(together, user, amount, key));
      }),
    );
    await Promise.all(ahead);
    expect(together.calls.slice(5)).toEqual([
      { operations: SPENDS.length, alone: false, waiting: 0 },
    ]);
    expect(batched).toEqual(oneByOne);
    const words = batched.map((answer) =>
      'code' in answer ? answer.code : answer.replayed ? 'replayed' : answer.answer.outcome,
    );
    expect(words).toEqual(SPENDS.map(([, , , expected]) => expected));
  });

  it('500 spends of 7 from 1,000, each sent twice: 142 applied, 142 replayed, 716 refused', async () => {
    const world = open();
    const user = await holder(1_000);
    const words = await concurrently(1_000, (n) =>
      wordOf(consume(world, user, 7, `op-${n % 500}`)),
    );
    expect(countBy(words)).toEqual({ applied: 142, replayed: 142, insufficient_credits: 716 });
    for (let op = 0; op < 500; op += 1) {
      expect(words[op] === 'insufficient_credits').toBe(words[op + 500] === 'insufficient_credits');
    }
    expect(await entriesOf(user)).toHaveLength(142);
    // The first alone, then 500, then 499.
    expect(world.calls.map(({ operations }) => operations)).toEqual([1, 500, 499]);
  });

  it('a call holds no more than 256 KB', async () => {
    const world = open();
    const user = await holder();
    const metadata = { text: 'x'.repeat(8_000) };
    await concurrently(100, (n) =>
      world.spending.consume({ userId: user, amount: 1, idempotencyKey: `k${n}`, metadata }),
    );
    expect(world.calls.map(({ operations }) => operations)).toEqual([1, 32, 32, 32, 3]);
    expect(await entriesOf(user)).toHaveLength(100);
  });
});

describe('a spend that comes by itself', () => {
  it('is one plain consume, sent at once', async () => {
    const world = open();
    const user = await holder();
    for (let n = 0; n < 5; n += 1) await consume(world, user, 1, `k${n}`);
    expect(world.calls).toEqual(Array(5).fill({ operations: 1, alone: true, waiting: 0 }));
  });
});

describe('a user that others hold', () => {
  it('keeps nobody waiting, and keeps its batches', async () => {
    const world = open();
    const [locked = '', ...free] = await holders(9);
    await whileLocked([locked], async (release) => {
      let answered = 0;
      const held = concurrently(60, async (n) => {
        // Sent again as its caller would, should this machine take longer than the lock's bound.
        let word = 'dependency_down';
        while (word === 'dependency_down') {
          word = await wordOf(consume(world, locked, 1, `held-${n}`));
        }
        answered += 1;
        return word;
      });
      const words = await concurrently(160, (n) =>
        wordOf(consume(world, free[n % free.length] ?? '', 1, `free-${n}`)),
      );
      expect(countBy(words)).toEqual({ applied: 160 });
      expect(answered).toBe(0);
      await release();
      expect(new Set(await held)).toEqual(new Set(['applied']));
    });
    expect(await entriesOf(locked)).toHaveLength(60);
    expect(world.calls.length).toBeLessThan(30);
  });

  it('is told so when the lock outlasts its bound, and may send the same key again', async () => {
    const world = open();
    const [locked = '', other = ''] = await holders(2);
    await whileLocked([locked], async (release) => {
      const words = await Promise.all([
        wordOf(consume(world, locked, 1, 'a')),
        wordOf(consume(world, locked, 1, 'b')),
        wordOf(consume(world, locked, 1, 'c')),
        wordOf(consume(world, other, 1, 'a')),
      ]);
      // All of them 503; what waited behind the first may have waited too long to be sent.
      for (const word of words.slice(0, 3))
        expect(['dependency_down', 'overloaded']).toContain(word);
      expect(words[3]).toBe('applied');
      await release();
    });
    expect(await entriesOf(locked)).toEqual([]);
    expect(await wordOf(consume(world, locked, 1, 'a'))).toBe('applied');
  });
});

describe('a full queue', () => {
  it('refuses with 503 and Retry-After, and answers those it took', async () => {
    const world = open();
    const [first = '', second = '', free = ''] = await holders(3);
    await whileLocked([first, second], async (release) => {
      // One of each is sent at once.
      const fill = (user: string) =>
        concurrently(QUEUED_PER_USER_MAX + 1, (n) => wordOf(consume(world, user, 1, `k${n}`)));
      const held = [fill(first)];
      await expect(consume(world, first, 1, 'more')).rejects.toMatchObject({
        code: 'overloaded',
        retryAfterSeconds: 1,
        message: expect.stringContaining(`${QUEUED_PER_USER_MAX} spends of this user`),
      });
      held.push(fill(second));
      await expect(consume(world, free, 1, 'k')).rejects.toMatchObject({
        code: 'overloaded',
        retryAfterSeconds: 1,
        message: expect.stringContaining(`${QUEUED_MAX} spends wait`),
      });
      await release();
      const answers = (await Promise.all(held)).flat();
      // Each was judged, or on a slow machine refused for its age; what was spent is in the ledger.
      const { applied = 0, insufficient_credits = 0, overloaded = 0 } = countBy(answers);
      expect(applied + insufficient_credits + overloaded).toBe(answers.length);
      expect(applied).toBe((await entriesOf(first)).length + (await entriesOf(second)).length);
      expect(applied).toBeGreaterThan(0);
    });
    expect(await wordOf(consume(world, free, 1, 'k'))).toBe('applied');
  });

  it('refuses what could not be sent in time, and nothing was spent', async () => {
    let nowMs = 0;
    const calls: CoalescedCall[] = [];
    const { createCoalescer } = await import('../../src/credits/coalescer.ts');
    const coalescer = createCoalescer({
      db,
      mirror: async () => {},
      nowMs: () => nowMs,
      observe: (call) => calls.push(call),
    });
    const user = await holder();
    const spend = (key: string) =>
      coalescer.spend({ user_id: user, amount: 1, idempotency_key: key }).then(
        ({ outcome }) => outcome.outcome,
        (error: PurserError) => error.code,
      );
    const answers = [spend('sent'), spend('late'), spend('late too')];
    nowMs = 10_001;
    answers.push(spend('fresh'));
    expect(await Promise.all(answers)).toEqual(['applied', 'overloaded', 'overloaded', 'applied']);
    expect((await entriesOf(user)).map(({ key }) => key)).toEqual([
      'consume:sent',
      'consume:fresh',
    ]);
  });
});

describe('a failure', () => {
  afterEach(async () => {
    await database.current.query('drop trigger if exists bad on credit_transactions');
  });

  it('of one spend fails that one, and the others keep their answers', async () => {
    await database.current.query(`
      create or replace function public.refuse_bad() returns trigger language plpgsql as $$
      begin
        if new.description = 'bad' then raise exception 'the app forbids it'; end if;
        return new;
      end $$;
      create trigger bad before insert on credit_transactions
      for each row execute function public.refuse_bad()`);
    const world = open();
    const users = await holders(10);
    const words = await concurrently(100, (n) =>
      wordOf(
        world.spending.consume({
          userId: users[n % 10] ?? '',
          amount: 1,
          idempotencyKey: `k${n}`,
          description: n === 37 || n === 57 ? 'bad' : 'good',
        }),
      ),
    );
    expect(words[37]).toBe('internal');
    expect(words[57]).toBe('internal');
    expect(countBy(words)).toEqual({ applied: 98, internal: 2 });
    // Both of one user: what gathers for it goes on alone, the others never went one by one.
    expect(world.calls.length).toBeLessThan(20);
  });

  it('of the connection repeats the same keys: nothing is spent twice', async () => {
    const world = open();
    const users = await holders(5);
    let killed = 0;
    let busy = true;
    // Few, so that some attempts of every call get through.
    const killer = (async () => {
      while (busy && killed < 10) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const rows = await database.current.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'purser' and datname = current_database() and state = 'active'`,
        );
        killed += rows.length;
      }
    })();
    const words: string[] = [];
    for (let round = 0; round < 20 || (killed === 0 && round < 500); round += 1) {
      const answers = await concurrently(25, async (n) => {
        let word = 'dependency_down';
        while (word === 'dependency_down') {
          word = await wordOf(consume(world, users[n % 5] ?? '', 1, `k${round}-${n}`));
        }
        return word;
      });
      words.push(...answers);
    }
    busy = false;
    await killer;
    expect(killed).toBeGreaterThan(0);
    const { applied = 0, replayed = 0 } = countBy(words);
    expect(applied + replayed).toBe(words.length);
    for (const user of users) expect(await entriesOf(user)).toHaveLength(words.length / 5);
  });
});

describe('the mirror', () => {
  it('is written once per call, each user’s newest copy, after the answers', async () => {
    const world = open();
    const users = await holders(6);
    await concurrently(120, (n) => consume(world, users[n % 6] ?? '', 1, `k${n}`));
    await world.mirrorIdle();
    expect(world.copies).toHaveLength(world.calls.length);
    expect(world.calls.length).toBeLessThan(30);
    for (const user of users) {
      const [row] = await database.current.query<{ balance: number; version: number }>(
        `select credits_balance::int as balance, credits_version::int as version from users where id = $1`,
        [user],
      );
      expect(await world.redis.readMirror(user)).toMatchObject({ ...row });
    }
  });
});

describe('the drain', () => {
  it('answers all that were taken, refuses new ones, and then rests', async () => {
    const world = open();
    const users = await holders(3);
    const taken = concurrently(600, (n) => wordOf(consume(world, users[n % 3] ?? '', 1, `k${n}`)));
    const drained = world.spending.drain();
    expect(await wordOf(consume(world, users[0] ?? '', 1, 'late'))).toBe('overloaded');
    await drained;
    const calls = world.calls.length;
    expect(countBy(await taken)).toEqual({ applied: 600 });
    await world.spending.drain();
    expect(world.calls).toHaveLength(calls);
  });

  it('waits for a locked user’s spends, too', async () => {
    const world = open();
    const user = await holder();
    await whileLocked([user], async (release) => {
      const taken = concurrently(20, (n) => wordOf(consume(world, user, 1, `k${n}`)));
      let rests = false;
      const drained = world.spending.drain().then(() => {
        rests = true;
      });
      await waitFor(
        async () =>
          (
            await database.current.query(
              `select 1 from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'purser'`,
            )
          ).length > 0,
        'the spend to wait for the lock',
      );
      expect(rests).toBe(false);
      await release();
      await drained;
      expect(countBy(await taken)).toEqual({ applied: 20 });
    });
  });
});
