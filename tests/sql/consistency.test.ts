import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { plantedHold } from '../support/plantedHold.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

interface Drift {
  user_id: string;
  issue: string;
  expected: string | null;
  actual: string | null;
  detail: Record<string, unknown>;
}

const drifts = (depth?: 'sums' | 'entries') =>
  database.current.query<Drift & Record<string, unknown>>(
    'select * from validate_credits_consistency($1)',
    [depth ?? null],
  );
const issuesOf = async (user: string, depth?: 'sums' | 'entries') =>
  (await drifts(depth)).filter((drift) => drift.user_id === user).map((drift) => drift.issue);
const ofUsers = (users: string[]) =>
  database.current.query('select * from validate_user_credits($1::text[])', [users]);

/** What only somebody who means it can do: switch the guards off, then write. */
async function tamper(sql: string): Promise<void> {
  await database.current.query(`begin;
    alter table credit_transactions disable trigger all; alter table credit_seals disable trigger all;
    set local role purser_ledger; ${sql}; reset role;
    alter table credit_transactions enable always trigger purser_append_only;
    alter table credit_transactions enable always trigger purser_foreign_write;
    alter table credit_transactions enable always trigger purser_truncate;
    alter table credit_seals enable always trigger purser_append_only;
    alter table credit_seals enable always trigger purser_foreign_write;
    alter table credit_seals enable always trigger purser_truncate; commit`);
}

let count = 0;
let user = '';
let lots: string[] = [];
/** Two lots of 50 and 20 bought, 7 spent, sealed: entries 1 to 3. */
beforeEach(async () => {
  count += 1;
  user = userId(`drifter-${count}`);
  await call('ensure_user', { p_user_id: user });
  for (const [index, credits] of [50, 20].entries()) {
    const key = `checkout:cs_${user}_${index}`;
    await call('grant_credits', {
      p_user_id: user,
      p_type: 'purchase',
      p_key: key,
      p_sources: [key],
      p_lots: [{ credits }],
    });
  }
  await call('consume_credits', { p_user_id: user, p_amount: 7, p_key: 'k' });
  await call('seal_credit_entries', { p_limit: 5000 });
  lots = (
    await database.current.query<{ id: string }>(
      'select id from credit_grants where user_id = $1 order by id',
      [user],
    )
  ).map((row) => row.id);
});

/** Takes a planted drift away again, so that the next test begins clean. */
async function forget(): Promise<void> {
  await tamper(`delete from credit_transactions where user_id = '${user}';
    delete from credit_grants where user_id = '${user}'; delete from credit_seals where user_id = '${user}';
    delete from credit_holds where user_id = '${user}'; delete from credit_sources where user_id = '${user}'`);
  await database.current.query('delete from users where id = $1', [user]);
  await tamper(`delete from closed_accounts where user_id = '${user}'`);
  expect(await drifts('sums')).toEqual([]);
}

/** An open hold of 5, 2 of them captured, that no function made. */
const openHold = () => plantedHold({ user: `'${user}'`, amount: 5, captured: 2 });

interface Planted {
  what: string;
  sql: () => string;
  /** What is named, in this order. */
  issues: string[];
  /** What the scan of sums alone leads to, where it cannot see this. */
  sums?: string[];
  /** What sync_user_credits leaves. */
  left: string[];
}

const entry = (n: number) => `user_id = '${user}' and entry_number = ${n}`;
const PLANTED: Planted[] = [
  {
    what: 'a balance that is not the sum of the entries',
    sql: () => `update users set credits_balance = 999 where id = '${user}'`,
    issues: ['balance', 'lots'],
    left: [],
  },
  {
    what: 'a debt beside lots',
    sql: () =>
      `update users set credits_debt = 5 where id = '${user}'; update credit_grants set remaining = remaining + 5 where id = ${lots[0]}`,
    issues: ['debt', 'lot'],
    left: [],
  },
  {
    what: 'a lot with more left than the entries leave',
    sql: () => `update credit_grants set remaining = 50 where id = ${lots[0]}`,
    issues: ['lot', 'lots'],
    left: [],
  },
  {
    what: 'credits moved from one lot to another, the sum unchanged',
    sql: () =>
      `update credit_grants set remaining = 50 where id = ${lots[0]}; update credit_grants set remaining = 13 where id = ${lots[1]}`,
    issues: ['lot', 'lot'],
    sums: [],
    left: [],
  },
  {
    what: 'credits held without a hold',
    sql: () => `update users set credits_held = 4 where id = '${user}'`,
    issues: ['held'],
    left: [],
  },
  {
    what: 'an open hold that the account does not know of',
    sql: () => `${openHold()}`,
    issues: ['held'],
    left: [],
  },
  {
    what: 'a count of entries that is not theirs',
    sql: () => `update users set entry_count = 2 where id = '${user}'`,
    issues: ['numbering'],
    left: [],
  },
  {
    what: 'an entry that is gone',
    sql: () => `delete from credit_transactions where ${entry(2)}`,
    issues: ['balance', 'lot', 'numbering', 'seal'],
    left: ['lot', 'lots', 'numbering', 'seal'],
  },
  {
    what: 'the last entry gone',
    sql: () => `delete from credit_transactions where ${entry(3)}`,
    issues: ['balance', 'lot', 'numbering', 'seal'],
    left: ['seal'],
  },
  {
    what: 'an amount that was changed',
    sql: () => `update credit_transactions set amount = amount - 1 where ${entry(3)}`,
    issues: ['balance', 'entry_lots', 'running_balance', 'seal'],
    left: ['entry_lots', 'lots', 'running_balance', 'seal'],
  },
  {
    what: 'two balances after that were changed against each other',
    sql: () =>
      `update credit_transactions set balance_after = balance_after + 1 where ${entry(1)};
       update credit_transactions set balance_after = balance_after - 1 where ${entry(2)}`,
    issues: ['running_balance', 'running_balance', 'running_balance', 'seal'],
    left: ['running_balance', 'running_balance', 'running_balance', 'seal'],
  },
  {
    what: 'an entry that names less of its lots than its amount',
    sql: () =>
      `update credit_transactions set lots = jsonb_build_array(jsonb_build_object('grant_id', '${lots[0]}', 'amount', 6)) where ${entry(3)}`,
    issues: ['entry_lots', 'lot', 'seal'],
    sums: [],
    left: ['entry_lots', 'lot', 'seal'],
  },
  {
    what: 'lots of an entry that cannot be read',
    sql: () => `update credit_transactions set lots = '"broken"' where ${entry(3)}`,
    issues: ['entry_lots', 'lot', 'seal'],
    sums: [],
    left: ['entry_lots', 'lot', 'seal'],
  },
  {
    what: 'a lot that no entry speaks of',
    sql: () =>
      `insert into credit_grants (user_id, entry_number, amount, remaining, paid, created_at) values ('${user}', 3, 9, 9, false, now())`,
    issues: ['lot', 'lots'],
    left: ['lot', 'lots'],
  },
  {
    what: 'a lot that is gone',
    sql: () => `delete from credit_grants where id = ${lots[1]}`,
    issues: ['lot', 'lots'],
    left: ['lot', 'lots'],
  },
  {
    what: 'a text that was changed after it was sealed',
    sql: () => `update credit_transactions set description = 'other' where ${entry(2)}`,
    issues: ['seal'],
    sums: [],
    left: ['seal'],
  },
  {
    what: 'a stretch of seals that is gone',
    sql: () => `insert into credit_seals (user_id, first_entry, last_entry, seals)
        select user_id, 2, 3, substring(seals from 33) from credit_seals where user_id = '${user}';
      delete from credit_seals where user_id = '${user}' and first_entry = 1`,
    issues: ['seal'],
    left: ['seal'],
  },
  {
    what: 'a refund of more than was spent',
    sql: () => `update credit_transactions set reverses = 3 where ${entry(2)}`,
    issues: ['reverses', 'seal'],
    left: ['reverses', 'seal'],
  },
  {
    what: 'a refund of an entry that is not there',
    sql: () => `update credit_transactions set reverses = 77 where ${entry(3)}`,
    issues: ['reverses', 'seal'],
    left: ['reverses', 'seal'],
  },
];

describe('drift', () => {
  it.each(PLANTED)(
    'is named and, where it can be, mended: $what',
    async ({ sql, issues, sums, left }) => {
      expect(await drifts('entries')).toEqual([]);
      await tamper(sql());
      expect(await issuesOf(user)).toEqual(issues);
      expect(await issuesOf(user, 'sums')).toEqual(sums ?? issues);
      expect(await ofUsers([user])).toEqual(await drifts());

      const synced = await call('sync_user_credits', { p_user_id: user });
      expect(synced.remaining_issues.map(({ issue }: Drift) => issue)).toEqual(left);
      expect(await issuesOf(user)).toEqual(left);
      // A second time there is nothing to do.
      expect(await call('sync_user_credits', { p_user_id: user })).toMatchObject({
        changed: false,
      });
      await forget();
    },
  );

  it('says what is expected, what is there, and where', async () => {
    await tamper(`update credit_grants set remaining = 50 where id = ${lots[0]};
      update users set credits_held = 3 where id = '${user}'`);
    expect(await drifts()).toEqual([
      { user_id: user, issue: 'held', expected: '0', actual: '3', detail: {} },
      { user_id: user, issue: 'lot', expected: '43', actual: '50', detail: { grant_id: lots[0] } },
      {
        user_id: user,
        issue: 'lots',
        expected: '63',
        actual: '70',
        detail: { remaining: 70, debt: 0 },
      },
    ]);
    await forget();
  });

  it('of entries and holds whose user is nowhere is named', async () => {
    await tamper(openHold());
    await database.current.query('delete from users where id = $1', [user]);
    await tamper(`delete from closed_accounts where user_id = '${user}'`);
    expect(await issuesOf(user)).toEqual(['account_missing', 'hold_without_user']);
    expect(await issuesOf(user, 'sums')).toEqual(['account_missing', 'hold_without_user']);
    await forget();
  });

  it('of a closed account is named and mended in its tombstone', async () => {
    await database.current.query('delete from users where id = $1', [user]);
    expect(await drifts()).toEqual([]);
    await tamper(`update closed_accounts set credits_balance = 1 where user_id = '${user}'`);
    expect(await issuesOf(user)).toEqual(['balance', 'lots']);
    expect(await call('sync_user_credits', { p_user_id: user })).toMatchObject({
      before: { balance: 1 },
      after: { balance: 63 },
      changed: true,
      remaining_issues: [],
    });
    expect(await drifts()).toEqual([]);
    await forget();
  });

  it('has no third depth', async () => {
    await expect(
      database.current.query(`select * from validate_credits_consistency('all')`),
    ).rejects.toMatchObject({ code: 'PT400' });
  });
});

describe('a claw-back', () => {
  it('off the target of its payments is named; it is not for sync to guess', async () => {
    const payment = `pi_${user}`;
    await call('grant_credits', {
      p_user_id: user,
      p_type: 'purchase',
      p_key: `payment:${payment}`,
      p_sources: [`payment:${payment}`],
      p_lots: [{ credits: 50 }],
    });
    await call('set_payment_state', {
      p_payment: payment,
      p_version: 1,
      p_paid: 500,
      p_refunded: 100,
      p_disputed: 0,
    });
    expect(await drifts('entries')).toEqual([]);
    await tamper(`update payments set refunded = 300 where payment = '${payment}'`);
    const expected = [
      {
        user_id: user,
        issue: 'clawback',
        expected: '30',
        actual: '10',
        detail: { entry_number: 4 },
      },
    ];
    expect(await drifts()).toEqual(expected);
    expect(await drifts('sums')).toEqual(expected);
    expect(await call('sync_user_credits', { p_user_id: user })).toMatchObject({ changed: false });
    await tamper(`delete from payments where payment = '${payment}'`);
    await forget();
  });
});

describe('sync_user_credits', () => {
  it('answers before and after, audits, and raises the version so that the mirror follows', async () => {
    await tamper(`update users set credits_balance = 999, credits_held = 4 where id = '${user}';
      update credit_grants set remaining = 44 where id = ${lots[0]}`);
    expect(await call('sync_user_credits', { p_user_id: user })).toEqual({
      user_id: user,
      before: { balance: 999, held: 4, debt: 0, entry_count: 3 },
      after: { balance: 63, held: 0, debt: 0, entry_count: 3 },
      changed: true,
      lots: [{ grant_id: lots[0], before: 44, after: 43 }],
      remaining_issues: [],
    });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 63,
      held: 0,
      available: 63,
      version: 4,
    });
    expect(
      await database.current.query(
        `select actor, action, before -> 'lots' as lots, after ->> 'balance' as balance from audit_events where user_id = $1`,
        [user],
      ),
    ).toEqual([
      {
        actor: 'sql',
        action: 'sync_user_credits',
        lots: [{ grant_id: lots[0], before: 44, after: 43 }],
        balance: '63',
      },
    ]);
    const since = new Date(Date.now() - 60_000).toISOString();
    const { records } = await call('list_mirror_changes', { p_since: since, p_limit: 1000 });
    expect(records).toContainEqual(expect.objectContaining({ user_id: user, version: 4 }));
    await forget();
  });

  it('empties a lot that the entries used up, and fills one they did not', async () => {
    await call('consume_credits', { p_user_id: user, p_amount: 43, p_key: 'rest' });
    await tamper(`update credit_grants set remaining = 20, exhausted_at = null where id = ${lots[0]};
      update credit_grants set remaining = 0, exhausted_at = now() where id = ${lots[1]}`);
    expect(await issuesOf(user)).toEqual(['lot', 'lot']);
    await call('sync_user_credits', { p_user_id: user });
    expect(await drifts()).toEqual([]);
    expect(
      await call('consume_credits', { p_user_id: user, p_amount: 20, p_key: 'all' }),
    ).toMatchObject({ outcome: 'applied', lots: [{ grant_id: lots[1], amount: 20 }] });
    await forget();
  });
});

describe('the check of what changed', () => {
  const changed = async () => {
    const sum = { users: 0, drifts: 0, resolved: 0 };
    for (let more = true; more; ) {
      const page = await call('check_changed_credits', { p_limit: 3 });
      for (const key of ['users', 'drifts', 'resolved'] as const) sum[key] += page[key];
      more = page.more;
    }
    return sum;
  };
  const findings = () =>
    database.current.query(
      `select code, subject, resolved_at is not null as resolved from reconciliation_findings
       where user_id = $1 order by code`,
      [user],
    );

  it('finds the same as the full check for the users touched since', async () => {
    const [{ since }] = (await database.current.query('select clock_timestamp() as since')) as [
      { since: Date },
    ];
    const bystander = user;
    user = userId(`drifter-${count}-b`);
    await call('ensure_user', { p_user_id: user });
    await call('grant_credits', {
      p_user_id: user,
      p_type: 'bonus',
      p_key: 'grant:x',
      p_lots: [{ credits: 5 }],
    });
    await tamper(`update users set credits_balance = 6 where id in ('${user}', '${bystander}')`);
    const full = (await drifts('entries')).filter((drift) => drift.user_id === user);
    expect(full).toHaveLength(2);
    expect(
      await database.current.query('select * from validate_credits_consistency_since($1)', [since]),
    ).toEqual(full);
    await call('sync_user_credits', { p_user_id: bystander });
    await forget();
    user = bystander;
    await forget();
  });

  it('records what it finds, and resolves it when it is gone', async () => {
    // What was written before is not looked at again.
    await database.current.query(
      `insert into purser.consistency_passes (name, done_until) values ('changed', now() + interval '1 minute')
       on conflict (name) do update set done_until = excluded.done_until`,
    );
    await call('consume_credits', { p_user_id: user, p_amount: 1, p_key: 'touch' });
    await tamper(`update credit_grants set remaining = 50 where id = ${lots[0]}`);
    expect(await changed()).toMatchObject({ drifts: 2 });
    expect(await findings()).toEqual([
      { code: 'credit_drift_lot', subject: `${user}/lot ${lots[0]}`, resolved: false },
      { code: 'credit_drift_lots', subject: user, resolved: false },
    ]);
    // Mended by hand, which leaves no trace: what was found is looked at again all the same.
    await tamper(`update credit_grants set remaining = 42 where id = ${lots[0]}`);
    await database.current.query(
      `update purser.consistency_passes set done_until = now() + interval '2 minutes'`,
    );
    expect(await changed()).toMatchObject({ drifts: 0, resolved: 2 });
    expect((await findings()).map(({ resolved }) => resolved)).toEqual([true, true]);
    await database.current.query(
      `update purser.consistency_passes set done_until = now() - interval '1 minute'`,
    );
    await forget();
  });

  it('walks every user once in a full pass, whatever the page, and nobody when none is due', async () => {
    await tamper(`update users set credits_held = 1 where id = '${user}'`);
    const [{ n }] = (await database.current.query(
      'select count(*)::int as n from purser.all_counters',
    )) as [{ n: number }];
    let users = 0;
    let found = 0;
    for (let more = true; more; ) {
      const page = await call('check_all_credits', { p_limit: 100, p_every_days: 0 });
      users += page.users;
      found += page.drifts;
      more = page.more;
    }
    // The suspects are looked at once more at the end.
    expect(users).toBe(n + 1);
    expect(found).toBe(2);
    expect(await findings()).toEqual([
      { code: 'credit_drift_held', subject: user, resolved: false },
    ]);
    expect(await call('check_all_credits', {})).toEqual({
      users: 0,
      drifts: 0,
      resolved: 0,
      more: false,
    });
    await forget();
  });
});

describe('a user of very many entries', () => {
  it('is checked by the newest of them between full checks, linked to the balance before', async () => {
    const shortened = () =>
      database.current.query<{ issue: string }>(
        `select issue from purser.credit_drift(array[$1], 2) order by issue`,
        [user],
      );
    expect(await shortened()).toEqual([]);
    await tamper(`update credit_transactions set balance_after = 71 where ${entry(2)}`);
    expect((await shortened()).map(({ issue }) => issue)).toEqual(['balance', 'running_balance']);
    await forget();
  });
});
