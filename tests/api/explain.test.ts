import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
const user = userId('explained');
let stack: Stack;
let bearer = '';

const service = (target: string) => stack.call('GET', target, { bearer: SERVICE_KEY });
const mine = (target: string) => stack.call('GET', target, { bearer });

beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
  bearer = await stack.token(user);
  const session = await stack.call('POST', '/api/checkout-session', {
    bearer,
    body: { plan: 'pack_50' },
  });
  await stack.sandbox.pay(session.body.session_id);
  const target = `/api/checkout-session/${session.body.session_id}/fulfill`;
  expect((await stack.call('POST', target, { bearer })).body).toMatchObject({ status: 'credited' });
  const post = (path: string, key: string, body: unknown) =>
    stack.call('POST', path, {
      bearer: SERVICE_KEY,
      body,
      headers: { 'idempotency-key': key },
    });
  const spent = await post('/api/credits/consume', 'k', {
    user_id: user,
    amount: 7,
    description: '=cmd()',
  });
  await post('/api/credits/refund-usage', 'r', {
    user_id: user,
    transaction_id: spent.body.transaction_id,
    amount: 2,
  });
});
afterAll(() => stack.stop());

describe('an explanation over HTTP', () => {
  it('tells a support person the whole story of a user', async () => {
    const { status, body } = await service(`/api/users/${user}/credits/explain`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ user_id: user, balance: 45, entries: 3, truncated: false });
    expect(body.sentences).toEqual([
      expect.stringMatching(
        /UTC: bought pack_50, \+50 credits \(checkout session cs_.*\), balance 50\.$/,
      ),
      expect.stringMatching(/UTC: spent 7 credits on "=cmd\(\)", from lot \d+, balance 43\.$/),
      expect.stringMatching(
        /UTC: gave back 2 credits of the spending in entry 2, to lot \d+, balance 45\.$/,
      ),
      expect.stringMatching(
        /UTC: the balance is 45 credits \(45 of 50 in lot \d+\); 45 can be spent\.$/,
      ),
    ]);
    expect((await mine('/api/credits/explain')).body.sentences.slice(0, 3)).toEqual(
      body.sentences.slice(0, 3),
    );
  });

  it('goes back to before anything was, and asks for an instant it can read', async () => {
    expect((await service(`/api/users/${user}/credits/explain?at=2020-01-01`)).body).toMatchObject({
      balance: 0,
      entries: 0,
      at: '2020-01-01T00:00:00.000Z',
    });
    expect(await service(`/api/users/${user}/credits/explain?at=yesterday`)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    });
    expect((await service(`/api/users/${userId('nobody')}/credits/explain`)).status).toBe(404);
    expect((await stack.call('GET', `/api/users/${user}/credits/explain`)).status).toBe(401);
  });
});

describe('a statement over HTTP', () => {
  it('opens, lists and closes, page by page', async () => {
    const first = (await mine('/api/credits/statement?limit=2')).body;
    expect(first).toMatchObject({
      from: null,
      opening_balance: 0,
      closing_balance: 45,
      totals: [
        { transaction_type: 'purchase', entries: 1, amount: 50 },
        { transaction_type: 'usage', entries: 1, amount: -7 },
        { transaction_type: 'usage_refund', entries: 1, amount: 2 },
      ],
      has_more: true,
    });
    const rest = (
      await service(
        `/api/users/${user}/statement?limit=2&to=${first.to}&cursor=${first.next_cursor}`,
      )
    ).body;
    expect(rest).toMatchObject({ to: first.to, closing_balance: 45, next_cursor: null });
    expect(rest.data).toMatchObject([
      { entry_number: 3, amount: 2, reverses: 2, reverses_transaction_id: first.data[1].id },
    ]);
  });

  it('is a file that no spreadsheet runs, and so is the history of a service key', async () => {
    for (const target of ['/statement.csv', '/transactions.csv?type=usage&to=2999-01-01']) {
      const response = await fetch(`${stack.url}/api/users/${user}${target}`, {
        headers: { authorization: `Bearer ${SERVICE_KEY}` },
      });
      expect(response.headers.get('content-type')).toContain('text/csv');
      const text = await response.text();
      expect(text).toContain(",'=cmd(),");
      const rows = text.trim().split('\r\n');
      expect(rows).toHaveLength(target.startsWith('/statement') ? 6 : 2);
    }
  });
});

describe('the consistency check', () => {
  /** Run by hand; the server may be at it by itself. */
  const check = () =>
    waitFor(async () => {
      const { body } = await stack.call('POST', '/api/admin/jobs/consistency-check/run', {
        bearer: ADMIN_KEY,
      });
      return body.outcome === 'busy' ? null : body;
    }, 'the consistency check');

  it('is a job that an operator can run, and finds nothing', async () => {
    const { outcome, result } = await check();
    expect({ outcome, drifts: result.drifts }).toEqual({ outcome: 'done', drifts: 0 });
    expect(result.users).toBeGreaterThan(0);
  });

  it('says in the log that the books do not add up', async () => {
    await database.current.query(`begin; set local role purser_ledger;
      update users set credits_held = 3 where id = '${user}'; reset role; commit`);
    expect((await check()).result.drifts).toBeGreaterThan(0);
    expect(stack.logs.map(({ message }) => message)).toContainEqual(
      expect.stringMatching(/The credit ledger does not add up in \d+ places/),
    );
  });
});
