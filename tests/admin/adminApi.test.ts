import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack } from '../support/stack.ts';

/** Audit and users as an admin sees them, through HTTP on a real database. */
const database = testDatabase();
let stack: Stack;

beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    adapter: 'pg',
  });
  for (const userId of ['ada', 'adam', 'eve']) {
    await service('PUT', `/api/users/${userId}`, {
      email: `${userId.toUpperCase()}@example.com`,
      stripe_customer_id: `cus_${userId}`,
    });
  }
  for (const [n, userId] of ['ada', 'ada', 'eve'].entries()) {
    const reason = `reason ${n}`;
    await admin('POST', `/api/admin/users/${userId}/adjust`, { amount: 10 + n, reason }, `k${n}`);
  }
});
afterAll(() => stack.stop());

const service = (method: string, path: string, body?: unknown, key?: string) =>
  call(SERVICE_KEY, method, path, body, key);
const admin = (method: string, path: string, body?: unknown, key?: string) =>
  call(ADMIN_KEY, method, path, body, key);

async function call(bearer: string, method: string, path: string, body?: unknown, key?: string) {
  const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key };
  const answer = await stack.call(method, path, { bearer, body, headers });
  return answer;
}

describe('audit', () => {
  it('shows who did what and why, newest first, page by page', async () => {
    const all = await admin('GET', '/api/admin/audit?action=adjust_credits');
    expect(all.status).toBe(200);
    expect(all.body.data.map((event: { reason: string }) => event.reason)).toEqual([
      'reason 2',
      'reason 1',
      'reason 0',
    ]);
    expect(all.body.data[0]).toMatchObject({
      actor: expect.stringMatching(/^admin:[0-9a-f]{8}$/),
      user_id: 'eve',
    });
    const first = await admin('GET', '/api/admin/audit?action=adjust_*&limit=2');
    expect(first.body).toMatchObject({ has_more: true });
    const next = encodeURIComponent(first.body.next_cursor);
    const second = await admin('GET', `/api/admin/audit?action=adjust_*&limit=2&cursor=${next}`);
    expect(second.body).toMatchObject({ has_more: false, next_cursor: null });
    expect([...first.body.data, ...second.body.data]).toEqual(all.body.data);
  });

  it.each([
    ['user_id=ada', 2],
    ['user_id=nobody', 0],
    ['actor=admin:*', 3],
    ['actor=admin:', 0],
    ['from=2999-01-01', 0],
    ['to=2000-01-01', 0],
  ])('filters by %s', async (filter, count) => {
    const { body } = await admin('GET', `/api/admin/audit?action=adjust_credits&${filter}`);
    expect(body.data).toHaveLength(count);
  });

  it.each([
    'cursor=x',
    'limit=0',
    'limit=101',
    'actor=%25',
    'from=b',
    'from=2026-02-01&to=2026-01-01',
    'who=me',
  ])('refuses ?%s and says where the fault is', async (query) => {
    const { status, body } = await admin('GET', `/api/admin/audit?${query}`);
    expect({ status, code: body.code }).toEqual({ status: 400, code: 'invalid_request' });
    expect(body.errors[0].path).toMatch(/cursor|limit|actor|from|who|^$/);
  });

  it('takes no cursor of another list', async () => {
    const { body } = await admin('GET', '/api/admin/users?limit=1');
    const cursor = encodeURIComponent(body.next_cursor);
    expect(await admin('GET', `/api/admin/audit?cursor=${cursor}`)).toMatchObject({ status: 400 });
  });
});

describe('users', () => {
  it.each([
    ['ada', ['ada', 'adam']],
    ['adam', ['adam']],
    ['eve@EX', ['eve']],
    ['cus_eve', ['eve']],
    ['cus_', []],
    ['%', []],
    ['_da', []],
  ])('are found by %s, taken literally', async (q, expected) => {
    const { body } = await admin('GET', `/api/admin/users?q=${encodeURIComponent(q)}`);
    expect(body.data.map((user: { user_id: string }) => user.user_id)).toEqual(expected);
  });

  it('come page by page', async () => {
    const seen: string[] = [];
    let cursor = '';
    for (let page = 0; page < 3; page += 1) {
      const { body } = await admin('GET', `/api/admin/users?limit=1${cursor}`);
      seen.push(...body.data.map((user: { user_id: string }) => user.user_id));
      cursor = `&cursor=${encodeURIComponent(body.next_cursor)}`;
    }
    expect(seen).toEqual(['ada', 'adam', 'eve']);
  });

  it('are shown with ledger and mirror, lots, holds, entries and what is known at Stripe', async () => {
    await service('POST', '/api/credits/holds', { user_id: 'ada', amount: 4 }, 'h');
    const { status, body } = await admin('GET', '/api/admin/users/ada');
    expect(status).toBe(200);
    expect(body).toMatchObject({
      profile: { user_id: 'ada', email: 'ADA@example.com', customers: ['cus_ada'], closed: false },
      ledger: { balance: 21, held: 4, available: 17, debt: 0, entries: 2, due: false },
      lots: [{ amount: 10, remaining: 10 }, { amount: 11 }],
      holds: [{ status: 'open', amount: 4 }],
      recent_entries: [{ amount: 11 }, { amount: 10 }],
      payments: [],
      open_findings: [],
    });
    expect(['equal', 'missing', 'behind']).toContain(body.mirror.state);
  });

  it('show findings about them, and events that wait for them', async () => {
    await database.current.query(`
      set role purser_ledger;
      select purser.record_finding('amount_differs', 'checkout:cs_9', 'eve', '{"told": 1}');
      reset role;
      insert into public.stripe_webhook_events (stripe_event_id, event_type, event_data, status, waiting_for)
      values ('evt_waits', 'invoice.paid', '{}', 'parked', 'cus_eve')`);
    const { body } = await admin('GET', '/api/admin/users/eve');
    expect(body.open_findings).toMatchObject([{ code: 'amount_differs', detail: { told: 1 } }]);
    expect(body.waiting_events).toMatchObject([{ event_id: 'evt_waits', status: 'parked' }]);
  });

  it('are found when their account is closed, with their book', async () => {
    await database.current.query(`delete from public.users where id = 'adam'`);
    await service('PUT', '/api/users/gone', { email: 'gone@example.com' });
    await admin('POST', '/api/admin/users/gone/adjust', { amount: 7, reason: 'gift' }, 'gone');
    await database.current.query(`delete from public.users where id = 'gone'`);
    const { body } = await admin('GET', '/api/admin/users/gone');
    expect(body).toMatchObject({ profile: { closed: true }, ledger: { balance: 7, available: 0 } });
    expect(body.recent_entries).toHaveLength(1);
    const told = await admin('GET', '/api/admin/users/gone/explain');
    expect(told.body.sentences.join(' ')).toContain('7 credits');
  });

  it('that do not exist are 404 everywhere', async () => {
    for (const path of ['', '/transactions', '/explain']) {
      const { status, body } = await admin('GET', `/api/admin/users/nobody${path}`);
      expect([path, status, body.code]).toEqual([path, 404, 'user_not_found']);
    }
  });

  it('answer health as the contract says', async () => {
    const { status, body } = await admin('GET', '/api/admin/stripe/subscription-health');
    expect(status).toBe(200);
    const codes = body.deductions.map(({ code }: { code: string }) => code);
    expect(codes).toContain('open_findings');
    expect(body.health_score).toBe(
      100 - body.deductions.reduce((sum: number, one: { points: number }) => sum + one.points, 0),
    );
    const run = await admin('POST', '/api/admin/jobs/health-check/run');
    expect(run.body).toMatchObject({
      outcome: 'done',
      result: { health_score: body.health_score },
    });
  });
});
