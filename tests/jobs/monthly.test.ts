/** The monthly proof: every entry of the ledger and every copy in Redis. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Database, JsonObject, RedisStore } from '../../src/core/ports.ts';
import { checkEverything } from '../../src/credits/checkConsistency.ts';
import { createMemoryRedis } from '../../src/redis/memoryRedis.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { mirrorRecord, OTHER_LEDGER } from '../support/redisContract.ts';
import { collectLines } from '../support/redisLogger.ts';

const USERS = 1200;
let database: TestDatabase;
let db: Database;
let redis: RedisStore;
let lines: string[];
let pauses: number;
/** What happens while a copy that is behind is given time. */
let meanwhile: () => Promise<unknown>;

beforeAll(async () => {
  database = await createTestDatabase();
  db = createPgDatabase({ connectionString: database.connectionString });
  await database.query(`
    insert into users (id) select 'u' || n from generate_series(1, ${USERS}) n;
    select grant_credits('u' || n, 'bonus', 'grant:' || n, '[{"credits": 10}]')
    from generate_series(1, ${USERS}) n`);
});
afterAll(async () => {
  await db.close();
  await database.drop();
});
beforeEach(async () => {
  redis = createMemoryRedis({ nowMs: Date.now });
  pauses = 0;
  meanwhile = async () => {};
  await run();
  await database.query(
    'begin; set local role purser_ledger; delete from reconciliation_findings; commit',
  );
});

async function run(stopAfterPages = Number.POSITIVE_INFINITY, cursor: JsonObject | null = null) {
  const collected = collectLines();
  let left = stopAfterPages;
  let kept = cursor;
  const result = await checkEverything(
    {
      db,
      redis,
      logger: collected.logger,
      nowMs: Date.now,
      async pause() {
        pauses += 1;
        await meanwhile();
      },
    },
    () => {
      left -= 1;
      return left < 0;
    },
    {
      cursor,
      report: (_progress, at) => {
        kept = structuredClone(at);
      },
    },
  );
  lines = collected.lines;
  return { result, cursor: kept };
}

const copyOf = async (user: string) => {
  const copy = await redis.readMirror(user);
  if (copy === null) throw new Error(`No copy of ${user}`);
  return copy;
};
const findings = () =>
  database.query(
    `select code, subject, detail, resolved_at is not null as resolved from reconciliation_findings order by code`,
  );

describe('the monthly check', () => {
  it('checks every user and every copy, and has nothing to say of books that fit', async () => {
    const { result } = await run();
    expect(result).toMatchObject({
      users: USERS,
      drifts: 0,
      mirror: { compared: USERS, missing: 0, behind: 0, ahead: 0, differs: 0, orphaned: 0 },
    });
    expect(await findings()).toEqual([]);
    expect(lines).toEqual([]);
    expect(pauses).toBe(0);
  });

  it('writes copies that are missing, and those of another ledger, without a finding', async () => {
    await redis.deleteMirror('u7');
    await redis.writeMirror('u8', mirrorRecord({ ledger: OTHER_LEDGER, balance: 999 }));
    expect((await run()).result).toMatchObject({ mirror: { missing: 2, differs: 0 } });
    expect(await copyOf('u7')).toMatchObject({ balance: 10 });
    expect(await copyOf('u8')).toMatchObject({ balance: 10 });
    expect(await findings()).toEqual([]);
  });

  it('finds a copy that was edited, mends it and writes down both numbers', async () => {
    const copy = await copyOf('u3');
    await redis.deleteMirror('u3');
    await redis.writeMirror('u3', { ...copy, balance: 1_000_000, available: 1_000_000 });
    expect((await run()).result).toMatchObject({ mirror: { differs: 1 } });
    expect(await copyOf('u3')).toEqual(copy);
    expect(await findings()).toMatchObject([
      {
        code: 'mirror_differs',
        subject: 'u3',
        resolved: true,
        detail: { stored: { balance: 1_000_000 }, ledger: { balance: 10 }, mended: true },
      },
    ]);
    expect(lines).toEqual([expect.stringContaining('error: 1 copies in Redis differed')]);
    expect((await run()).result).toMatchObject({ mirror: { differs: 0 } });
  });

  it('finds a copy ahead of the ledger, and one of a user who is gone', async () => {
    const copy = await copyOf('u4');
    await redis.writeMirror('u4', { ...copy, version: copy.version + 5, balance: 77 });
    await redis.writeMirror('nobody', copy);
    expect((await run()).result).toMatchObject({ mirror: { ahead: 1, orphaned: 1 } });
    expect(await copyOf('u4')).toEqual(copy);
    expect(await redis.readMirror('nobody')).toBeNull();
    expect(await findings()).toMatchObject([
      { code: 'mirror_ahead', subject: 'u4' },
      { code: 'mirror_orphaned', subject: 'nobody' },
    ]);
  });

  it('gives a copy that is behind the time it may need, and finds the one that stays behind', async () => {
    for (const user of ['u5', 'u6']) {
      await db.rpc('consume_credits', { p_user_id: user, p_amount: 1, p_key: `${pauses}:${user}` });
    }
    meanwhile = async () => {
      const answer = await db.rpc<{ mirror: Parameters<RedisStore['writeMirror']>[1] }>(
        'get_credit_balance',
        { p_user_id: 'u6' },
      );
      await redis.writeMirror('u6', answer.mirror);
    };
    expect((await run()).result).toMatchObject({ mirror: { behind: 1 } });
    expect(pauses).toBe(1);
    expect(await findings()).toMatchObject([{ code: 'mirror_behind', subject: 'u5' }]);
    expect(await copyOf('u5')).toMatchObject({ balance: 9 });
  });

  it('goes on where it was stopped, and counts the whole pass', async () => {
    let cursor: JsonObject | null = null;
    let result: JsonObject = {};
    let runs = 0;
    for (;;) {
      // Two looks are one page and the stop before the next.
      ({ result, cursor } = await run(2, cursor));
      runs += 1;
      if (runs > 20 || lines.length > 0) throw new Error('It does not end.');
      if ((cursor?.mirror_at as JsonObject | null)?.stage === 'copies') break;
    }
    ({ result } = await run(undefined, cursor));
    expect(runs).toBeGreaterThan(3);
    expect(result).toMatchObject({ users: USERS, mirror: { compared: USERS } });
  });

  it('names drift in the ledger, and resolves it when it is gone', async () => {
    const set = (held: number) =>
      database.query(
        `begin; set local role purser_ledger; update users set credits_held = ${held} where id = 'u9'; commit`,
      );
    await set(3);
    expect((await run()).result.drifts).toBeGreaterThan(0);
    expect(await findings()).toContainEqual(
      expect.objectContaining({ code: 'credit_drift_held', subject: 'u9', resolved: false }),
    );
    expect(lines).toContainEqual(expect.stringContaining('does not add up'));
    await set(0);
    expect((await run()).result).toMatchObject({ drifts: 0 });
    expect((await findings()).every(({ resolved }) => resolved)).toBe(true);
  });
});
