import { beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService, concurrently } from '../support/sqlCall.ts';

const database = testDatabase();
const users = ['ann', 'ben', 'cat', 'dan'].map(userId);
const [ann, ben, cat, dan] = users as [string, string, string, string];
const seal = (limit?: number) =>
  callAsService(database.current, 'seal_credit_entries', { p_limit: limit });
const verify = () => database.current.query('select * from verify_credit_chain() order by user_id');

/** What only somebody who means it can do: switch the guards off, then write. */
async function tamper(sql: string): Promise<void> {
  await database.current.query(`begin;
    alter table credit_transactions disable trigger all; alter table credit_seals disable trigger all;
    ${sql};
    alter table credit_transactions enable always trigger purser_append_only;
    alter table credit_transactions enable always trigger purser_foreign_write;
    alter table credit_transactions enable always trigger purser_truncate; commit`);
}

async function spend(user: string, key: string): Promise<void> {
  await callAsService(database.current, 'consume_credits', {
    p_user_id: user,
    p_amount: 1,
    p_key: key,
  });
}

beforeAll(async () => {
  // Opening balances of an existing app.
  while ((await seal()).more) {}
  for (const user of users) {
    await callAsService(database.current, 'ensure_user', { p_user_id: user });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: user,
      p_type: 'purchase',
      p_key: `checkout:cs_${user}`,
      p_sources: [`checkout:cs_${user}`],
      p_lots: [{ credits: 50 }],
      p_metadata: { note: 'ünïcode ✓', nested: { b: 1, a: [1, 2.5, null] } },
    });
    for (let n = 0; n < 5; n += 1) await spend(user, `k${n}`);
  }
});

describe('sealing', () => {
  it('covers every entry once, in pages, and goes on where it stopped', async () => {
    expect(await seal(3)).toEqual({ users: 3, entries: 18, more: true });
    expect(await seal(3)).toEqual({ users: 1, entries: 6, more: false });
    expect(await seal()).toEqual({ users: 0, entries: 0, more: false });
    await spend(ann, 'later');
    expect(await seal()).toEqual({ users: 1, entries: 1, more: false });
    expect(await verify()).toEqual([]);
  });

  it('by several at once seals nothing twice', async () => {
    for (const user of users) await spend(user, 'race');
    await concurrently(4, () => seal());
    const rows = await database.current.query(`
      select user_id, sum(last_entry - first_entry + 1)::int as sealed, max(last_entry)::int as last
      from credit_seals group by user_id order by 1`);
    for (const row of rows) expect(row.sealed).toBe(row.last);
    expect(await verify()).toEqual([]);
  });

  it('says the same whatever the time zone and float format of the session', async () => {
    const rows = await database.current.asRole('service_role', {}, async (client) => {
      await client.query(
        `set local timezone = 'Asia/Kolkata'; set local extra_float_digits = 0; set local datestyle = 'German'`,
      );
      return (await client.query('select * from verify_credit_chain()')).rows;
    });
    expect(rows).toEqual([]);
  });

  it('keeps the seals from being written by hand', async () => {
    await expect(database.current.query('delete from credit_seals')).rejects.toMatchObject({
      code: '42501',
    });
    await expect(database.current.query('truncate credit_seals')).rejects.toMatchObject({
      code: '42501',
    });
  });
});

describe('a superuser who tampers', () => {
  it('with an amount, a text or a time is found by the exact row, the others stay clean', async () => {
    await tamper(`update credit_transactions set amount = amount - 1 where user_id = '${ann}' and entry_number = 3;
      update credit_transactions set metadata = '{}' where user_id = '${ben}' and entry_number = 1;
      update credit_transactions set created_at = created_at + interval '1 microsecond' where user_id = '${cat}' and entry_number = 6`);
    expect(await verify()).toMatchObject([
      { user_id: ann, entry_number: '3', issue: 'changed' },
      { user_id: ben, entry_number: '1', issue: 'changed' },
      { user_id: cat, entry_number: '6', issue: 'changed' },
    ]);
    const one = await database.current.query(`select * from verify_credit_chain('${ben}')`);
    expect(one).toMatchObject([{ user_id: ben, entry_number: '1' }]);
  });

  it('by removing an entry, or a seal, is found', async () => {
    await tamper(`delete from credit_transactions where user_id = '${dan}' and entry_number = 4`);
    expect(
      await database.current.query(`select * from verify_credit_chain('${dan}')`),
    ).toMatchObject([{ user_id: dan, entry_number: '4', issue: 'missing' }]);
    await tamper(`delete from credit_seals where user_id = '${dan}' and first_entry = 1`);
    expect(
      await database.current.query(`select * from verify_credit_chain('${dan}')`),
    ).toMatchObject([{ user_id: dan, entry_number: '1', issue: 'seal_missing' }]);
  });
});
