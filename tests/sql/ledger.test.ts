import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { type Answer, callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let count = 0;
let user = '';
beforeEach(async () => {
  count += 1;
  user = userId(`user-${count}`);
  await call('ensure_user', { p_user_id: user });
});

const nobody = userId('nobody');

const session = (n: number) => `checkout:cs_${user}_${n}`;
function purchase(n: number, fields: Record<string, Json> = {}): Promise<Answer> {
  return call('grant_credits', {
    p_user_id: user,
    p_type: 'purchase',
    p_key: session(n),
    p_sources: [session(n)],
    p_lots: [{ credits: 50 }],
    ...fields,
  });
}
const consume = (amount: number, key: string, now?: string) =>
  call('consume_credits', { p_user_id: user, p_amount: amount, p_key: key, p_now: now });

async function expectConsistent(): Promise<void> {
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
}
const findings = (subject: string) =>
  database.current.query('select code, times from reconciliation_findings where subject = $1', [
    subject,
  ]);

describe('a purchase', () => {
  it('credits once, and answers the same again', async () => {
    const first = await purchase(1);
    expect(first).toMatchObject({
      outcome: 'applied',
      amount: 50,
      balance: 50,
      available: 50,
      version: 1,
    });
    const second = await purchase(1);
    expect(second).toEqual({ ...first, outcome: 'replayed', repaid_debt: undefined });
    await expectConsistent();
  });

  it('is one settlement under all its names, whichever comes first', async () => {
    const invoice = `invoice:in_${user}`;
    const payment = `payment:pi_${user}`;
    await purchase(1, { p_sources: [session(1), payment] });
    const viaInvoice = await purchase(1, { p_key: invoice, p_sources: [invoice, payment] });
    expect(viaInvoice).toMatchObject({ outcome: 'replayed', balance: 50 });
    // The invoice was attached to the same entry, so it alone is known now, too.
    expect(await purchase(1, { p_key: invoice, p_sources: [invoice] })).toMatchObject({
      outcome: 'replayed',
    });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ balance: 50 });
    await expectConsistent();
  });

  it('of an object that paid for another user is a conflict and a finding', async () => {
    await purchase(1);
    const other = userId(`user-${count}-b`);
    await call('ensure_user', { p_user_id: other });
    const answer = await purchase(1, { p_user_id: other });
    expect(answer).toEqual({ outcome: 'conflict', user_id: other });
    expect(await call('get_credit_balance', { p_user_id: other })).toMatchObject({
      balance: 0,
      version: 0,
    });
    expect(await findings(session(1))).toEqual([{ code: 'source_conflict', times: '1' }]);
  });

  it('that joins the objects of two entries is a conflict, and none is added', async () => {
    await purchase(1);
    await purchase(2);
    const invoice = `invoice:in_${user}`;
    expect(await purchase(1, { p_sources: [session(1), session(2), invoice] })).toMatchObject({
      outcome: 'conflict',
    });
    expect(
      await database.current.query('select 1 from credit_sources where source_key = $1', [invoice]),
    ).toEqual([]);
    await expectConsistent();
  });

  it('of another amount under the same object keeps the first and is a finding', async () => {
    await purchase(1);
    expect(await purchase(1, { p_lots: [{ credits: 60 }] })).toMatchObject({
      outcome: 'replayed',
      amount: 50,
      balance: 50,
    });
    expect(await findings(session(1))).toEqual([{ code: 'source_amount_differs', times: '1' }]);
  });

  it('for an unknown user writes nothing', async () => {
    expect(await purchase(1, { p_user_id: nobody })).toEqual({
      outcome: 'not_found',
      user_id: nobody,
    });
    expect(
      await database.current.query('select 1 from credit_sources where source_key = $1', [
        session(1),
      ]),
    ).toEqual([]);
  });

  it('of several lots is one entry', async () => {
    const lots = [{ credits: 50, expires_at: '2999-01-01T00:00:00Z' }, { credits: 200 }];
    expect(await purchase(1, { p_lots: lots })).toMatchObject({ amount: 250, balance: 250 });
    const { expiring } = await call('get_credit_balance', { p_user_id: user });
    expect(expiring).toEqual([
      expect.objectContaining({ credits: 50, expires_at: '2999-01-01T00:00:00.000Z' }),
    ]);
    await expectConsistent();
  });

  it.each<[string, Record<string, Json>]>([
    ['no lots', { p_lots: [] }],
    ['a lot of nothing', { p_lots: [{ credits: 0 }] }],
    ['a negative lot', { p_lots: [{ credits: 10 }, { credits: -5 }] }],
    ['credits beyond 2^53 - 1', { p_lots: [{ credits: 9_007_199_254_740_992 }] }],
    ['a type that is no grant', { p_type: 'usage' }],
    ['no key', { p_key: '' }],
  ])('with %s is a broken contract', async (_what, fields) => {
    await expect(purchase(1, fields)).rejects.toMatchObject({
      code: 'PT400',
      message: 'invalid_request',
    });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({ version: 0 });
  });

  it('that would pass 2^53 - 1 credits in all is refused and changes nothing', async () => {
    await purchase(1, { p_lots: [{ credits: Number.MAX_SAFE_INTEGER }] });
    await expect(purchase(2)).rejects.toMatchObject({ code: 'PT400' });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: Number.MAX_SAFE_INTEGER,
    });
    await expectConsistent();
  });
});

describe('spending', () => {
  it('follows the outcomes of the table, line by line', async () => {
    await purchase(1);
    const steps: [number, string, Record<string, unknown>][] = [
      [7, 'a', { outcome: 'applied', amount: 7, balance: 43, version: 2 }],
      [7, 'a', { outcome: 'replayed', amount: 7, balance: 43, version: 2 }],
      [8, 'a', { outcome: 'conflict' }],
      [44, 'b', { outcome: 'insufficient_credits', balance: 43, available: 43, version: 2 }],
      [43, 'b', { outcome: 'applied', balance: 0, version: 3 }],
      [44, 'b', { outcome: 'conflict' }],
      [7, 'a', { outcome: 'replayed', balance: 43, version: 2 }],
      [1, 'c', { outcome: 'insufficient_credits', balance: 0 }],
    ];
    for (const [amount, key, expected] of steps) {
      expect(await consume(amount, key)).toMatchObject(expected);
    }
    await expectConsistent();
  });

  it('of an unknown user is not_found', async () => {
    expect(await call('consume_credits', { p_user_id: nobody, p_amount: 1, p_key: 'k' })).toEqual({
      outcome: 'not_found',
      user_id: nobody,
    });
  });

  it.each([0, -5, 9_007_199_254_740_992])('of %d credits is a broken contract', async (amount) => {
    await expect(consume(amount, 'k')).rejects.toMatchObject({ code: 'PT400' });
  });

  it('burns by priority, expiry (none last), free before paid, then age', async () => {
    const soon = '2900-01-01T00:00:00Z';
    const late = '2950-01-01T00:00:00Z';
    const lots: Record<string, Json>[] = [
      { credits: 1, paid: true },
      { credits: 2, paid: false },
      { credits: 4, paid: true, expires_at: late },
      { credits: 8, paid: true, expires_at: soon },
      { credits: 16, paid: false, expires_at: soon },
      { credits: 32, paid: true, priority: 1 },
      { credits: 64, paid: true },
    ];
    for (const [index, lot] of lots.entries()) await purchase(index, { p_lots: [lot] });
    const { lots: spent } = await consume(127, 'all');
    expect(spent.map((lot: { amount: number }) => lot.amount)).toEqual([32, 16, 8, 4, 2, 1, 64]);
    await expectConsistent();
  });

  it('takes from two lots when one is not enough, and names both', async () => {
    await purchase(1, { p_lots: [{ credits: 5 }] });
    await purchase(2, { p_lots: [{ credits: 5 }] });
    const { lots } = await consume(7, 'k');
    expect(lots.map((lot: { amount: number }) => lot.amount)).toEqual([5, 2]);
  });

  it('never takes a lot whose time has come; its expiry is written first', async () => {
    await purchase(1, {
      p_lots: [{ credits: 30, expires_at: '2030-01-01T00:00:00Z' }, { credits: 10 }],
    });
    expect(await consume(35, 'k', '2031-01-01T00:00:00Z')).toMatchObject({
      outcome: 'insufficient_credits',
      balance: 10,
    });
    expect(await consume(10, 'k', '2031-01-01T00:00:00Z')).toMatchObject({
      outcome: 'applied',
      balance: 0,
    });
    const { data } = await call('list_credit_transactions', { p_user_id: user });
    expect(data.map((entry: Answer) => [entry.transaction_type, entry.amount])).toEqual([
      ['usage', -10],
      ['expiration', -30],
      ['purchase', 40],
    ]);
    await expectConsistent();
  });

  it('leaves plan lots alone while suspended, and says so', async () => {
    await purchase(1, { p_lots: [{ credits: 20, from_plan: true, priority: 1 }, { credits: 5 }] });
    await database.current.query(`begin; set local role purser_ledger;
      update users set credits_suspended = true, credits_version = credits_version + 1 where id = '${user}'; commit`);
    expect(await consume(6, 'k')).toMatchObject({
      outcome: 'suspended',
      available: 5,
      balance: 25,
    });
    expect(await consume(26, 'k')).toMatchObject({ outcome: 'insufficient_credits' });
    expect(await consume(5, 'k')).toMatchObject({ outcome: 'applied', balance: 20, available: 0 });
    await expectConsistent();
  });
});

describe('what is due', () => {
  it('is not in a balance, nor in its mirror, once its time has come', async () => {
    await purchase(1, {
      p_lots: [{ credits: 30, expires_at: '2030-01-01T00:00:00Z' }, { credits: 10 }],
    });
    const before = await call('get_credit_balance', {
      p_user_id: user,
      p_now: '2029-12-31T00:00:00Z',
    });
    expect(before).toMatchObject({
      balance: 40,
      mirror: { balance: 40, valid_until: Date.UTC(2030, 0, 1) },
    });
    const after = await call('get_credit_balance', {
      p_user_id: user,
      p_now: '2030-01-01T00:00:00Z',
    });
    expect(after).toMatchObject({
      balance: 10,
      version: 2,
      expiring: [],
      mirror: { balance: 10, valid_until: null },
    });
  });

  it('is written once, however often the job runs', async () => {
    await purchase(1, { p_lots: [{ credits: 30, expires_at: '2030-01-01T00:00:00Z' }] });
    const run = () => call('expire_due_credits', { p_now: '2030-06-01T00:00:00Z' });
    expect((await run()).users).toBeGreaterThanOrEqual(1);
    expect(await run()).toEqual({ users: 0, more: false });
    await expectConsistent();
  });
});

describe('the history', () => {
  it('is newest first, in pages that meet without gap', async () => {
    await purchase(1);
    for (let n = 0; n < 5; n += 1) await consume(1, `k${n}`);
    const first = await call('list_credit_transactions', { p_user_id: user, p_limit: 4 });
    expect(first.data.map((entry: Answer) => entry.entry_number)).toEqual([6, 5, 4, 3]);
    expect(first).toMatchObject({ has_more: true, next_before_entry: 3 });
    const second = await call('list_credit_transactions', {
      p_user_id: user,
      p_limit: 4,
      p_before_entry: 3,
    });
    expect(second.data.map((entry: Answer) => entry.entry_number)).toEqual([2, 1]);
    expect(second).toMatchObject({ has_more: false, next_before_entry: null });
  });

  it('can be asked by type and time', async () => {
    await purchase(1);
    await consume(1, 'k');
    const ask = async (filter: Record<string, Json>) =>
      (await call('list_credit_transactions', { p_user_id: user, ...filter })).data.length;
    expect(await ask({ p_type: 'usage' })).toBe(1);
    expect(await ask({ p_type: 'clawback' })).toBe(0);
    expect(await ask({ p_from: '2999-01-01T00:00:00Z' })).toBe(0);
    expect(await ask({ p_to: '2999-01-01T00:00:00Z' })).toBe(2);
  });
});

describe('a deleted user', () => {
  it('keeps the book, and takes the balance over when the id returns', async () => {
    await purchase(1);
    await consume(8, 'k');
    await database.current.query('delete from users where id = $1', [user]);
    await expectConsistent();
    expect(await consume(1, 'k2')).toMatchObject({ outcome: 'not_found' });
    expect((await call('list_credit_transactions', { p_user_id: user })).data).toHaveLength(2);
    // A second delivery of what he paid for is still a replay, not somebody's new credit.
    expect(await purchase(1)).toMatchObject({ outcome: 'replayed' });
    expect(await call('ensure_user', { p_user_id: user })).toMatchObject({ created: true });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 42,
      version: 3,
    });
    expect(await consume(8, 'k')).toMatchObject({ outcome: 'replayed', balance: 42 });
    await expectConsistent();
  });
});

describe('repair', () => {
  it('sets a drifted projection to what the entries say, audits it and raises the version', async () => {
    await purchase(1);
    await database.current.query(`begin; set local role purser_ledger;
      update users set credits_balance = 999 where id = '${user}'; commit`);
    const drift = await database.current.query(
      'select user_id, issue, expected, actual from validate_credits_consistency()',
    );
    expect(drift).toContainEqual({
      user_id: user,
      issue: 'balance',
      expected: '50',
      actual: '999',
    });
    expect(await call('sync_user_credits', { p_user_id: user })).toMatchObject({
      user_id: user,
      before: { balance: 999 },
      after: { balance: 50 },
      changed: true,
    });
    expect(await call('sync_user_credits', { p_user_id: user })).toMatchObject({ changed: false });
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 50,
      version: 2,
    });
    const audit = await database.current.query(
      `select action from audit_events where user_id = $1`,
      [user],
    );
    expect(audit).toEqual([{ action: 'sync_user_credits' }]);
    await expectConsistent();
  });

  it('of an unknown user says so', async () => {
    await expect(call('sync_user_credits', { p_user_id: nobody })).rejects.toMatchObject({
      code: 'PT404',
      message: 'user_not_found',
    });
  });
});

describe('welcome credits', () => {
  it('come once, with the row, and not again when the account returns', async () => {
    const fresh = userId(`${user}-welcome`);
    const ensure = () =>
      call('ensure_user', {
        p_user_id: fresh,
        p_email: `${fresh}@example.com`,
        p_welcome_credits: 5,
      });
    const created = await ensure();
    // On an app's own table the row may be there already: then nothing is given.
    const given = created.created ? 5 : 0;
    await ensure();
    expect(await call('get_credit_balance', { p_user_id: fresh })).toMatchObject({
      balance: given,
    });
    await database.current.query('delete from users where id = $1', [fresh]);
    await ensure();
    const { data } = await call('list_credit_transactions', { p_user_id: fresh });
    expect(
      data.filter((entry: Answer) => entry.idempotency_key === 'grant:welcome').length,
    ).toBeLessThanOrEqual(1);
    await expectConsistent();
  });
});

describe('ensure_user', () => {
  it('fills what is empty, and replaces only when told to', async () => {
    const ensure = (fields: Record<string, Json>) =>
      call('ensure_user', { p_user_id: user, ...fields });
    expect(await ensure({ p_email: 'a@example.com' })).toMatchObject({
      outcome: 'exists',
      email: 'a@example.com',
    });
    expect(await ensure({ p_email: 'b@example.com' })).toMatchObject({ email: 'a@example.com' });
    expect(await ensure({ p_email: 'b@example.com', p_replace: true })).toMatchObject({
      email: 'b@example.com',
    });
    expect(await ensure({ p_stripe_customer_id: `cus_${user}` })).toMatchObject({
      stripe_customer_id: `cus_${user}`,
    });
    expect(await call('find_user_by_customer', { p_customer_id: `cus_${user}` })).toEqual({
      user_id: user,
    });
  });

  it('refuses an id that cannot be one', async () => {
    expect(await call('ensure_user', { p_user_id: '' })).toEqual({ outcome: 'not_found' });
    expect(await call('ensure_user', { p_user_id: 'x'.repeat(256) })).toMatchObject({
      outcome: 'not_found',
    });
  });
});
