import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { type Answer, callAsService, concurrently } from '../support/sqlCall.ts';
import { tableContents } from '../support/tableContents.ts';

const database = testDatabase();
type Args = Record<string, Json | undefined>;
const call = (name: string, args: Args) => callAsService(database.current, name, args);
const dryRun = (name: string, args: Args) =>
  call('dry_run', { p_function: name, p_args: args as Record<string, Json> });

const NOW = '2030-01-01T00:00:00Z';
let count = 0;
let user = '';
beforeEach(async () => {
  count += 1;
  user = userId(`rehearsed-${count}`);
  await call('ensure_user', { p_user_id: user });
});
afterEach(async () => {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});

const give = (credits: number, lot: Record<string, Json> = {}, args: Args = {}) =>
  call('grant_credits', {
    p_user_id: user,
    p_type: 'purchase',
    p_key: `checkout:${user}-${Math.random()}`,
    p_lots: [{ credits, ...lot }],
    ...args,
  });

/** Rows that are there after and were not before, or were another way. */
async function writtenBy(work: () => Promise<Answer>) {
  const before = await tableContents(database.current);
  const answer = await work();
  const after = await tableContents(database.current);
  const written = Object.fromEntries(
    Object.entries(after).map(([table, rows]) => {
      const known = new Set(before[table]?.map((row) => JSON.stringify(row)));
      return [table, rows.filter((row) => !known.has(JSON.stringify(row)))];
    }),
  );
  return { answer, before, written };
}

const TIMES = [
  'created_at',
  'updated_at',
  'exhausted_at',
  'event_at',
  'first_seen_at',
  'last_seen_at',
];

/** Ids of rows that are new, by the names under which they are spoken of. */
type NewIds = Record<string, Set<string>>;

/** What must be the same in a dry run and the real run after it: all but times and new ids. */
function comparable(value: Json, newIds: NewIds): Json {
  if (Array.isArray(value)) return value.map((item) => comparable(item, newIds));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !TIMES.includes(key) && key !== 'mirror')
      .map(([key, member]) => [
        key,
        newIds[key]?.has(String(member)) ? null : comparable(member, newIds),
      ]),
  );
}

const idOf = (row: Json) => String((row as { id: Json }).id);
const inOrder = (row: Json) => JSON.stringify(Object.entries(row ?? {}).sort());
const sorted = (rows: Json[]) => rows.toSorted((a, b) => inOrder(a).localeCompare(inOrder(b)));

/** The dry run, that it wrote nothing, and that the real run then writes what it said. */
async function expectSameAsReal(name: string, args: Args): Promise<Answer> {
  const dry = await writtenBy(() => dryRun(name, args));
  expect(Object.entries(dry.written).filter(([, rows]) => rows.length > 0)).toEqual([]);
  const real = await writtenBy(() => call(name, args));

  const fresh = (table: string) => {
    const known = new Set(real.before[table]?.map(idOf));
    return new Set(real.written[table]?.map(idOf).filter((id) => !known.has(id)));
  };
  const newIds: NewIds = {
    transaction_id: fresh('credit_transactions'),
    grant_id: fresh('credit_grants'),
    hold_id: new Set([...fresh('credit_holds')].map((id) => `h_${id}`)),
  };
  const compare = (table: string, rows: Json[] = []) =>
    sorted(rows.map((row) => comparable(row, { ...newIds, id: fresh(table) })));
  const { rows } = dry.answer;
  const after = (pairs: { after: Json }[]) => pairs.map((pair) => pair.after);
  expect(comparable(dry.answer.answer, {})).toEqual(comparable(real.answer, newIds));
  const told: Record<string, Json[]> = {
    credit_transactions: rows.entries,
    credit_grants: after(rows.lots),
    credit_holds: after(rows.holds),
    payments: after(rows.payments),
    credit_sources: rows.sources,
    audit_events: rows.audit,
    reconciliation_findings: after(rows.findings),
  };
  for (const [table, wanted] of Object.entries(real.written)) {
    if (table !== 'users')
      expect([table, compare(table, told[table])]).toEqual([table, compare(table, wanted)]);
  }
  const counters = (row: Json) => {
    const account = row as Record<string, Json>;
    return {
      user_id: account.id,
      balance: account.credits_balance,
      held: account.credits_held,
      debt: account.credits_debt,
      version: account.credits_version,
      entry_count: account.entry_count,
    };
  };
  const wrote = real.written.users?.map(counters) ?? [];
  expect(sorted(after(rows.users))).toEqual(sorted(wrote as Json[]));
  const beforeOf = (table: string, pairs: { before: Json }[]) =>
    expect(real.before[table]).toEqual(
      expect.arrayContaining(
        pairs.flatMap(({ before }) =>
          before === null ? [] : [expect.objectContaining(before as Record<string, Json>)],
        ),
      ),
    );
  beforeOf('credit_grants', rows.lots);
  beforeOf('credit_holds', rows.holds);
  beforeOf('payments', rows.payments);
  beforeOf('reconciliation_findings', rows.findings);
  expect(real.before.users?.map(counters)).toEqual(
    expect.arrayContaining(rows.users.map(({ before }: { before: Json }) => before)),
  );
  return dry.answer;
}

describe('a dry run writes nothing and tells what the real run right after it writes', () => {
  it('consume_credits: applied, over two lots, with an expiration that was due', async () => {
    await give(10, { expires_at: '2030-01-01T00:00:00Z' }, { p_now: '2029-12-01T00:00:00Z' });
    for (const credits of [10, 10]) await give(credits, {}, { p_now: '2029-12-01T00:00:00Z' });
    const args = { p_user_id: user, p_amount: 15, p_key: 'a', p_metadata: { n: 1 }, p_now: NOW };
    const { answer, rows } = await expectSameAsReal('consume_credits', args);
    expect(answer).toMatchObject({ outcome: 'applied', transaction_id: null, balance: 5 });
    expect(rows.entries).toMatchObject([
      { transaction_type: 'expiration', amount: -10, id: null },
      { transaction_type: 'usage', amount: -15, id: null, metadata: { n: 1 } },
    ]);
    expect(
      rows.lots.map((lot: { before: Answer; after: Answer }) => [
        lot.before.remaining,
        lot.after.remaining,
      ]),
    ).toEqual([
      [10, 0],
      [10, 0],
      [10, 5],
    ]);
    expect(rows.users).toEqual([
      {
        before: { user_id: user, balance: 30, held: 0, debt: 0, version: 3, entry_count: 3 },
        after: { user_id: user, balance: 5, held: 0, debt: 0, version: 5, entry_count: 5 },
      },
    ]);
    // The same again is a replay, and a replay writes nothing.
    const again = await expectSameAsReal('consume_credits', args);
    expect(again.answer.outcome).toBe('replayed');
    expect(again.answer.transaction_id).not.toBeNull();
    expect(again.rows).toMatchObject({ entries: [], lots: [], users: [] });
  });

  it.each([
    ['insufficient_credits', { p_amount: 51, p_key: 'b' }],
    ['conflict', { p_amount: 4, p_key: 'used' }],
    ['not_found', { p_user_id: 'nobody', p_amount: 4, p_key: 'b' }],
  ])('consume_credits: %s', async (outcome, args) => {
    await give(50);
    await call('consume_credits', { p_user_id: user, p_amount: 5, p_key: 'used' });
    const { answer } = await expectSameAsReal('consume_credits', { p_user_id: user, ...args });
    expect(answer.outcome).toBe(outcome);
  });

  it('refund_usage: to an open lot, to an expired one, and debt', async () => {
    await give(10, { expires_at: '2029-12-31T00:00:00Z' }, { p_now: '2029-12-01T00:00:00Z' });
    await give(10, {}, { p_now: '2029-12-01T00:00:00Z' });
    const spent = { p_user_id: user, p_amount: 20, p_key: 'a', p_now: '2029-12-02T00:00:00Z' };
    const { transaction_id } = await call('consume_credits', spent);
    const owed = { p_amount: -3, p_key: 'd', p_reason: 'x', p_actor: 'y', p_allow_debt: true };
    await call('adjust_credits', { p_user_id: user, ...owed });
    const { answer, rows } = await expectSameAsReal('refund_usage', {
      p_user_id: user,
      p_transaction_id: transaction_id,
      p_key: 'r',
      p_now: NOW,
    });
    expect(answer).toMatchObject({ outcome: 'applied', repaid_debt: 3, transaction_id: null });
    expect(answer.lots).toMatchObject([{ amount: 7 }, { amount: 10, grant_id: null }]);
    expect(rows.lots).toMatchObject([
      { before: { remaining: 0 }, after: { remaining: 7 } },
      { before: null, after: { id: null, remaining: 10, paid: false } },
    ]);
    expect(rows.entries).toMatchObject([{ reverses: 3, lots: answer.lots }]);
  });

  it('grant_credits: of a settlement, its replay that names one object more, and a conflict', async () => {
    const sources = [`checkout:cs_${user}`, `payment:pi_${user}`];
    const args = {
      p_user_id: user,
      p_type: 'purchase',
      p_key: sources[0] ?? '',
      p_lots: [{ credits: 50 }, { credits: 5, paid: false }],
      p_sources: sources,
    };
    const { answer, rows } = await expectSameAsReal('grant_credits', args);
    expect(answer.lots).toEqual([
      { grant_id: null, amount: 50 },
      { grant_id: null, amount: 5 },
    ]);
    expect(rows.sources).toHaveLength(2);
    const more = { ...args, p_sources: [...sources, `invoice:in_${user}`] };
    const replay = await expectSameAsReal('grant_credits', more);
    expect(replay.rows).toMatchObject({
      entries: [],
      users: [],
      sources: [{ source_key: `invoice:in_${user}` }],
    });
    const other = userId(`rehearsed-${count}-b`);
    await call('ensure_user', { p_user_id: other });
    const conflict = await expectSameAsReal('grant_credits', { ...args, p_user_id: other });
    expect(conflict.rows.findings).toMatchObject([{ before: null, after: { times: 1 } }]);
    const seen = await expectSameAsReal('grant_credits', { ...args, p_user_id: other });
    expect(seen.rows.findings).toMatchObject([{ before: { times: 1 }, after: { times: 2 } }]);
  });

  it('grant_free_credits', async () => {
    const args = { p_amount: 7, p_type: 'bonus', p_key: 'g', p_reason: 'hello', p_priority: 3 };
    await expectSameAsReal('grant_free_credits', { p_user_id: user, ...args });
  });

  it('adjust_credits: up, down, into debt, with the row of the audit', async () => {
    const args = { p_user_id: user, p_reason: 'because', p_actor: 'admin:1' };
    await expectSameAsReal('adjust_credits', { ...args, p_amount: 20, p_key: 'a' });
    await expectSameAsReal('adjust_credits', { ...args, p_amount: -5, p_key: 'b' });
    const { rows } = await expectSameAsReal('adjust_credits', {
      ...args,
      p_amount: -50,
      p_key: 'c',
      p_allow_debt: true,
    });
    expect(rows.audit).toMatchObject([
      {
        id: null,
        actor: 'admin:1',
        before: { debt: 0 },
        after: { debt: 35, transaction_id: null },
      },
    ]);
  });

  it('hold_credits, extend_hold, capture_hold and release_hold', async () => {
    await give(50);
    const args = { p_user_id: user, p_amount: 20, p_key: 'h', p_now: NOW };
    const { answer, rows } = await expectSameAsReal('hold_credits', args);
    expect(answer).toMatchObject({ outcome: 'applied', hold_id: null, available: 30 });
    expect(rows).toMatchObject({
      entries: [],
      holds: [{ before: null, after: { id: null, amount: 20, status: 'open' } }],
      users: [{ before: { held: 0 }, after: { held: 20 } }],
    });
    const replay = await expectSameAsReal('hold_credits', args);
    expect(replay.rows).toMatchObject({ holds: [], users: [] });
    const hold = { p_hold_id: replay.answer.hold_id, p_now: NOW };
    await expectSameAsReal('extend_hold', { ...hold, p_expires_in_seconds: 3600 });
    const captured = await expectSameAsReal('capture_hold', { ...hold, p_key: 'c', p_amount: 5 });
    expect(captured.rows).toMatchObject({
      entries: [{ transaction_type: 'usage', amount: -5 }],
      holds: [{ before: { captured: 0 }, after: { captured: 5 } }],
    });
    await expectSameAsReal('release_hold', hold);
    const ended = await expectSameAsReal('capture_hold', { ...hold, p_key: 'd' });
    expect(ended).toMatchObject({ answer: { outcome: 'hold_ended' }, rows: { holds: [] } });
  });

  it('consume_credits_batch: users, keys and refusals mixed', async () => {
    await give(50);
    const other = userId(`rehearsed-${count}-b`);
    const operations = [
      { user_id: user, amount: 5, idempotency_key: 'a' },
      { user_id: 'nobody', amount: 5, idempotency_key: 'a' },
      { user_id: user, amount: 5, idempotency_key: 'a' },
      { user_id: other, amount: 5, idempotency_key: 'a' },
      { user_id: user, amount: 40, idempotency_key: 'b' },
      { user_id: other, amount: 50, idempotency_key: 'b' },
      { user_id: user, amount: 40, idempotency_key: 'c' },
    ];
    await call('ensure_user', { p_user_id: other, p_welcome_credits: 9 });
    const { rows } = await expectSameAsReal('consume_credits_batch', { p_operations: operations });
    expect(rows.entries).toHaveLength(3);
    expect(rows.users).toHaveLength(2);
  });

  it('set_payment_state: before the grant, taken back, and given back', async () => {
    const state = { p_payment: `pi_${user}`, p_paid: 500, p_disputed: 0 };
    const early = { ...state, p_version: 0, p_refunded: 0 };
    const { rows } = await expectSameAsReal('set_payment_state', early);
    expect(rows.payments).toMatchObject([{ before: null, after: { paid: 500, user_id: null } }]);
    await give(50, {}, { p_sources: [`payment:pi_${user}`] });
    const refunded = { ...state, p_version: 2, p_refunded: 250, p_actor: 'admin:1', p_reason: 'x' };
    const taken = await expectSameAsReal('set_payment_state', refunded);
    expect(taken).toMatchObject({
      answer: { outcome: 'applied', amount: -25, transaction_id: null },
      rows: {
        entries: [{ transaction_type: 'clawback', amount: -25 }],
        audit: [{ actor: 'admin:1' }],
      },
    });
    const stale = await expectSameAsReal('set_payment_state', { ...refunded, p_version: 1 });
    expect(stale.rows.payments).toEqual([]);
    const good = { ...state, p_version: 3, p_refunded: 0 };
    expect((await expectSameAsReal('set_payment_state', good)).rows).toMatchObject({
      entries: [{ transaction_type: 'clawback_reversal', amount: 25 }],
      payments: [{ before: { refunded: 250 }, after: { refunded: 0 } }],
    });
  });

  it('expire_due_credits: of several users', async () => {
    for (const name of ['x', 'y', 'z']) {
      user = userId(`rehearsed-${count}-${name}`);
      await call('ensure_user', { p_user_id: user });
      await give(10, { expires_at: '2029-06-01T00:00:00Z' });
    }
    const { answer, rows } = await expectSameAsReal('expire_due_credits', { p_now: NOW });
    expect(answer).toEqual({ users: 3, more: false });
    expect(rows.users).toHaveLength(3);
  });
});

describe('a dry run', () => {
  it.each([
    ['of a function that is no money function', 'ensure_user', { p_user_id: 'u' }],
    ['of itself', 'dry_run', { p_function: 'consume_credits', p_args: {} }],
    ['of a function that does not exist', 'pg_sleep', { p_user_id: 'u' }],
    ['with an argument the function has not', 'consume_credits', { p_amounts: 1 }],
    ['with an argument that is no name', 'consume_credits', { 'p_amount => 1); --': 1 }],
    ['with an amount of nothing', 'consume_credits', { p_user_id: 'u', p_amount: 0, p_key: 'k' }],
  ])('%s is a broken contract', async (_what, name, args) => {
    await expect(dryRun(name, args)).rejects.toMatchObject({ code: 'PT400' });
  });

  it.each([null, [], 'text'])('with %j as arguments is a broken contract', async (args) => {
    await expect(
      call('dry_run', { p_function: 'consume_credits', p_args: JSON.stringify(args) }),
    ).rejects.toMatchObject({ code: 'PT400' });
  });

  it('binds no key: the real call after it, of another amount, is applied', async () => {
    await give(50);
    await dryRun('consume_credits', { p_user_id: user, p_amount: 5, p_key: 'a' });
    expect(
      await call('consume_credits', { p_user_id: user, p_amount: 6, p_key: 'a' }),
    ).toMatchObject({ outcome: 'applied', balance: 44 });
  });

  it('takes text as text and null as null, whatever is in it', async () => {
    await give(50);
    const { rows } = await dryRun('consume_credits', {
      p_user_id: user,
      p_amount: 5,
      p_key: `k'); drop table users; -- $1 %s`,
      p_description: null,
      p_metadata: { "it's": [null, '"'] },
    });
    expect(rows.entries).toMatchObject([
      {
        idempotency_key: `consume:k'); drop table users; -- $1 %s`,
        description: null,
        metadata: { "it's": [null, '"'] },
      },
    ]);
  });

  it('keeps no lock: others spend while its caller is still in its transaction', async () => {
    await give(50);
    await database.current.asRole('service_role', {}, async (client) => {
      await client.query('select dry_run($1, $2)', [
        'consume_credits',
        JSON.stringify({ p_user_id: user, p_amount: 5, p_key: 'a' }),
      ]);
      expect(
        await call('consume_credits', { p_user_id: user, p_amount: 5, p_key: 'b' }),
      ).toMatchObject({ outcome: 'applied' });
    });
  });

  it('tells one consistent state each, while others write the same user', async () => {
    await give(1000);
    const answers = await concurrently(40, async (n) => {
      const args = { p_user_id: user, p_amount: 1, p_key: `k${n}` };
      if (n % 2 === 0) return call('consume_credits', args);
      return dryRun('consume_credits', args);
    });
    for (const { answer, rows } of answers.filter(({ rows }) => rows !== undefined)) {
      expect(rows.entries).toHaveLength(1);
      const [{ before, after }] = rows.users;
      expect(after).toEqual({
        ...before,
        balance: before.balance - 1,
        version: before.version + 1,
        entry_count: before.entry_count + 1,
      });
      expect(answer.balance).toBe(after.balance);
    }
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ balance: 980 });
  });
});
