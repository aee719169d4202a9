import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';
import { openDomain } from './support/domain.ts';
import { LONG_AGO, openReconcileWorld, type ReconcileWorld } from './support/reconcileWorld.ts';

const database = testDatabase();
const never = () => false;
let world: ReconcileWorld;
beforeAll(async () => {
  world = await openReconcileWorld(database.current);
});
afterAll(() => world.stop());

/** Somebody buys, and no event of it is ever delivered. */
async function buyUnheard(user: string): Promise<string> {
  await world.drop();
  return (await world.buy(user)).session;
}

async function inDomain<T>(
  work: (reconcile: ReturnType<typeof openDomain>['reconcile']) => Promise<T>,
  more: Parameters<typeof openDomain>[1] = {},
): Promise<T> {
  const { reconcile, close } = openDomain(world, more);
  try {
    return await work(reconcile);
  } finally {
    await close();
  }
}

describe('a run', () => {
  it('begins where the ledger began, and the next one where it ended', async () => {
    await buyUnheard('first');
    const first = await world.reconcile();
    expect(first).toMatchObject({ repaired: 1, differences: [{ code: 'missing_grant' }] });
    const [began] = await database.current.query<{ at: Date }>(
      `select date_trunc('second', position) as at from reconciliation_cursors where name = 'began'`,
    );
    expect(first.progress.stages.sessions.from).toBe(began?.at.toISOString());

    await buyUnheard('second');
    // A session that is open may still be paid: the next run begins with it.
    const { body: open } = await world.stack.call('POST', '/api/checkout-session', {
      bearer: await world.stack.token('third'),
      body: { plan: 'pack_50' },
    });
    const second = await world.reconcile();
    expect(second).toMatchObject({ repaired: 0, objects: expect.any(Number) });
    const since = await world.reconcile({ since: LONG_AGO });
    expect(since).toMatchObject({ repaired: 1, differences: [{ user_id: 'second' }] });
    const { created } = await world.stack.stripe.checkout.sessions.retrieve(open.session_id);
    const { body: state } = await world.admin('GET', 'stripe/reconciliation');
    expect(state.cursors.sessions.position).toBe(new Date(created * 1000).toISOString());
    expect(Date.parse(state.cursors.invoices.position)).toBeGreaterThan(created * 1000);

    await world.sandbox.pay(open.session_id);
    expect(await world.reconcile()).toMatchObject({
      repaired: 1,
      differences: [{ user_id: 'third' }],
    });
  });

  it('refuses a time of which the opening balances know', async () => {
    await callAsService(database.current, 'ensure_user', { p_user_id: 'opener' });
    await callAsService(database.current, 'grant_credits', {
      p_user_id: 'opener',
      p_type: 'adjustment',
      p_key: 'opening-balance',
      p_lots: [{ credits: 1 }],
    });
    const refused = await world.admin('POST', 'stripe/reconcile', { since: LONG_AGO });
    expect(refused).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', errors: [{ path: 'since' }] },
    });
    await database.current.query(
      `update reconciliation_cursors set position = now() - interval '2 days' where name = 'began'`,
    );
  });

  it('that is interrupted goes on where it stopped, on another process', async () => {
    const sessions = [await buyUnheard('a'), await buyUnheard('b')];
    expect(sessions).toHaveLength(2);
    // Between two objects of a page: what was healed stays, and the page is looked at again.
    let asked = 0;
    const early = await inDomain((reconcile) =>
      reconcile.run({ since: LONG_AGO }, 'admin:test', () => ++asked > 2),
    );
    expect(early).toMatchObject({ outcome: 'paused', paused_because: 'time', repaired: 1 });
    expect(early.progress).toMatchObject({ stage: 'sessions', stages: {} });
    asked = 0;
    const paused = await inDomain((reconcile) => reconcile.resume(() => ++asked > 3));
    expect(paused).toMatchObject({ outcome: 'paused', run_id: early.run_id, repaired: 2 });
    expect(paused.progress).toMatchObject({
      stage: 'refunds',
      stages: { sessions: { done: true }, invoices: { done: true } },
    });
    const { body: shown } = await world.admin('GET', `stripe/reconciliations/${paused.run_id}`);
    expect(shown).toMatchObject({ status: 'paused', repaired: 2, actor: 'admin:test' });

    const rest = await inDomain((reconcile) => reconcile.resume(never));
    expect(rest).toMatchObject({ outcome: 'done', run_id: paused.run_id, repaired: 2 });
    expect(rest.progress?.stages.sessions).toEqual(paused.progress?.stages.sessions);
    expect(rest.stripe_calls).toBeGreaterThan(paused.stripe_calls);
    expect(await database.current.query('select * from purser.reconciliation_seen')).toEqual([]);
    expect(await inDomain((reconcile) => reconcile.resume(never))).toMatchObject({
      outcome: 'nothing_to_resume',
    });
    expect(await world.balance('a')).toBe(50);
  });

  it('whose process died is taken over once its lease has run out', async () => {
    const begun = await callAsService(database.current, 'begin_reconciliation', {
      p_until: new Date().toISOString(),
      p_holder: 'dead',
    });
    expect(begun.outcome).toBe('begun');
    const busy = await inDomain((reconcile) => reconcile.run({}, 'admin:test', never));
    expect(busy).toMatchObject({ outcome: 'busy', run_id: begun.run.id });
    await database.current.query('update reconciliation_runs set leased_until = now()');
    expect(await inDomain((reconcile) => reconcile.run({}, 'admin:test', never))).toMatchObject({
      outcome: 'done',
      run_id: begun.run.id,
    });
    const late = await callAsService(database.current, 'save_reconciliation', {
      p_run_id: begun.run.id,
      p_fence: begun.fence,
      p_progress: {},
      p_objects: 0,
      p_stripe_calls: 0,
    });
    expect(late.outcome).toBe('stale');
  });

  it('is one, however many begin it at once, and credits once', async () => {
    await Promise.all(['c', 'd', 'e'].map(buyUnheard));
    const domains = Array.from({ length: 4 }, () => openDomain(world));
    const answers = await Promise.all(
      domains.map(({ reconcile }) => reconcile.run({ since: LONG_AGO }, 'admin:test', never)),
    );
    await Promise.all(domains.map(({ close }) => close()));
    const outcomes = answers.map(({ outcome }) => outcome);
    expect(outcomes).toContain('done');
    expect(new Set(outcomes).size).toBeLessThanOrEqual(2);
    const repaired = answers.filter(({ repaired }) => repaired > 0);
    expect(repaired.map(({ repaired }) => repaired)).toEqual([3]);
    for (const user of ['c', 'd', 'e']) expect(await world.balance(user)).toBe(50);
  });

  it('credits once while the events are delivered after all', async () => {
    const users = Array.from({ length: 6 }, (_, index) => `late-${index}`);
    const sessions = await Promise.all(users.map(buyUnheard));
    await world.deliver();
    const { data: events } = await world.stack.stripe.events.list({
      type: 'checkout.session.completed',
      limit: 100,
    });
    const late = events.filter(({ data }) => sessions.includes((data.object as { id: string }).id));
    expect(late).toHaveLength(6);
    await Promise.all([
      world.reconcile({ since: LONG_AGO }),
      ...late.map((event) => world.stack.deliver(event)),
    ]);
    await world.settled();
    for (const user of users) expect(await world.balance(user)).toBe(50);
    const [entries] = await database.current.query<{ n: number }>(
      `select count(*)::int as n from credit_transactions where user_id like 'late-%'`,
    );
    expect(entries).toEqual({ n: 6 });
    expect(await world.reconcile({ since: LONG_AGO })).toMatchObject({ findings: 0 });
  });

  it('waits where Stripe says that it is too much, and pauses when that does not end', async () => {
    await buyUnheard('waiting');
    const waits: number[] = [];
    const pause = async (ms: number) => {
      waits.push(ms);
    };
    await world.sandbox.setApiFaults({ status: 429, path: '/v1/checkout/sessions', times: 2 });
    const patient = await inDomain(
      (reconcile) => reconcile.run({ since: LONG_AGO }, 'admin:test', never),
      { pause },
    );
    expect(patient).toMatchObject({ outcome: 'done', repaired: 1 });
    expect(waits).toEqual([1_000, 2_000]);

    await world.sandbox.setApiFaults({ status: 429, path: '/v1/refunds' });
    const tired = await inDomain((reconcile) =>
      reconcile.run({ since: LONG_AGO }, 'admin:test', never),
    );
    expect(tired).toMatchObject({
      outcome: 'paused',
      progress: { stage: 'refunds', stages: { invoices: { done: true } } },
    });
    expect(tired.paused_because).toContain('Stripe');
    await world.sandbox.setApiFaults();
    expect(await inDomain((reconcile) => reconcile.resume(never))).toMatchObject({
      outcome: 'done',
      run_id: tired.run_id,
    });
  });

  it('passes over one object that cannot be settled, and says so', async () => {
    const session = await buyUnheard('poisoned');
    await buyUnheard('healthy');
    const path = `/v1/checkout/sessions/${session}`;
    await world.sandbox.setApiFaults({ status: 500, path });
    const run = await inDomain((reconcile) =>
      reconcile.run({ since: LONG_AGO }, 'admin:test', never),
    );
    expect(run).toMatchObject({ outcome: 'done' });
    expect(run.differences).toContainEqual(
      expect.objectContaining({ code: 'settlement_failed', subject: `checkout:${session}` }),
    );
    expect(await world.balance('healthy')).toBe(50);
    await world.sandbox.setApiFaults();
    const again = await inDomain((reconcile) =>
      reconcile.run({ since: LONG_AGO }, 'admin:test', never),
    );
    expect(again.differences).toMatchObject([{ code: 'missing_grant', outcome: 'repaired' }]);
    const { body: open } = await world.admin('GET', 'findings?status=open');
    expect(open.data).toEqual([]);
  });

  it('asks Stripe for pages, not for objects', async () => {
    const run = await inDomain((reconcile) =>
      reconcile.run({ since: LONG_AGO }, 'admin:test', never),
    );
    expect(run).toMatchObject({ findings: 0, stripe_calls: 5 });
    expect(run.objects).toBeGreaterThan(20);
  });
});
