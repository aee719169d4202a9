/** What a person may do with a case, what he is shown, and what the table itself refuses. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { SERVICE_KEY } from '../support/stack.ts';
import {
  caseOf,
  type DunningWorld,
  fails,
  GOOD_CARD,
  openDunningWorld,
  standing,
} from './dunningWorld.ts';

/** A lease lost on a busy machine takes a minute to run out. */
const database = testDatabase();
let world: DunningWorld;
beforeAll(async () => {
  world = await openDunningWorld(database.current);
});
afterAll(() => world?.stop());

const FIRST = 'payment_failed first 0';
const day = (from: string, to: string) =>
  Math.round((Date.parse(to) - Date.parse(from)) / 86_400_000);

async function opened(user: string) {
  const late = await fails(world, user);
  await world.deliver(await world.events(late));
  const { case_id } = await caseOf(world, late);
  const act = (action: string, reason = 'we spoke on the phone') =>
    world.admin('POST', `/${case_id}/${action}`, { reason });
  return { ...late, case_id, act };
}

async function play(days: number[]): Promise<void> {
  for (const wait of days) {
    await world.pass({ days: wait });
    await world.run();
  }
}

describe('a person', () => {
  it('pauses a case: nothing is done, and its time stands still until it is resumed', async () => {
    const late = await opened('held-back');
    await world.pass({ days: 1 });
    expect((await late.act('pause')).body).toMatchObject({ state: 'paused', due_at: null });
    expect((await late.act('pause')).body).toMatchObject({ state: 'paused' });
    await play([5, 5]);
    expect(await standing(world, late)).toMatchObject({ mails: [FIRST], stripe: 'past_due' });
    const { body } = await late.act('resume');
    expect(body).toMatchObject({ state: 'open', paused_at: null });
    expect(day(body.failed_at, body.due_at)).toBe(13);
    await play([2, 4, 3]);
    expect(await standing(world, late)).toMatchObject({
      state: 'canceled',
      stripe: 'canceled',
      mails: [
        FIRST,
        'payment_failed second 13',
        'payment_failed final 17',
        'subscription_canceled payment_failed',
      ],
    });
  });

  it('cannot keep a payment from ending a paused case', async () => {
    const late = await opened('pays-while-held');
    await late.act('pause');
    await world.sandbox.setCard(late.customer, GOOD_CARD);
    await world.sandbox.payInvoice(late.invoice);
    await world.deliver(await world.events(late));
    expect(await standing(world, late)).toMatchObject({ state: 'recovered', stripe: 'active' });
  });

  it('skips a mail, and the cancellation too', async () => {
    const late = await opened('skipped');
    expect((await late.act('skip')).body).toMatchObject({ next_step: 3 });
    await play([3]);
    expect(await standing(world, late)).toMatchObject({ mails: [FIRST] });
    await play([4]);
    expect((await late.act('skip')).body).toMatchObject({ next_step: null });
    const refused = await late.act('skip');
    expect(refused.status).toBe(400);
    expect(refused.body.detail).toContain('No step of the case is left');
    await play([4]);
    expect(await standing(world, late)).toMatchObject({
      state: 'open',
      stripe: 'past_due',
      mails: [FIRST, 'payment_failed final 7'],
    });
    expect((await caseOf(world, late)).steps.map(({ state }) => state)).toEqual([
      'done',
      'skipped',
      'done',
      'skipped',
    ]);
    await late.act('close');
  });

  it('closes a case for good, with why, in the audit', async () => {
    const late = await opened('forgiven');
    const { body } = await late.act('close', 'a friend of the house');
    expect(body).toMatchObject({ state: 'closed', resolution: 'by_hand' });
    expect((await late.act('close')).body).toMatchObject({ state: 'closed' });
    await world.deliver(
      (await world.stripe.events.list({ type: 'invoice.payment_failed' })).data
        .filter((event) => (event.data.object as { id: string }).id === late.invoice)
        .map((event) => ({ ...event, id: `${event.id}_again` })),
    );
    await play([10]);
    expect(await standing(world, late)).toMatchObject({
      state: 'closed',
      mails: [FIRST],
      stripe: 'past_due',
    });
    for (const action of ['pause', 'resume', 'skip']) {
      const { status, body: problem } = await late.act(action);
      expect([status, problem.code]).toEqual([400, 'invalid_request']);
      expect(problem.detail).toContain('has ended (by_hand)');
    }
    const { history } = await caseOf(world, late);
    expect(history.at(-1)).toMatchObject({
      action: 'dunning_ended',
      reason: 'a friend of the house',
      before: { state: 'open' },
      after: { state: 'closed', resolution: 'by_hand' },
    });
    expect(history.at(-1)?.actor).toMatch(/^admin/);
  });

  it('must give a reason, name a case that exists, and hold an admin key', async () => {
    expect((await world.admin('POST', '/1/close', {})).status).toBe(400);
    expect((await world.admin('POST', '/1/close', { reason: '  ' })).status).toBe(400);
    expect((await world.admin('POST', '/999999/close', { reason: 'x' })).status).toBe(404);
    expect((await world.admin('GET', '/999999')).status).toBe(404);
    expect((await world.admin('GET', '/x')).status).toBe(400);
    for (const target of ['', '/summary', '/preview', '/1']) {
      const path = `/api/admin/dunning${target}`;
      expect((await world.stack.call('GET', path)).status).toBe(401);
      expect([401, 403]).toContain(
        (await world.stack.call('GET', path, { bearer: SERVICE_KEY })).status,
      );
    }
  });
});

describe('what is shown', () => {
  it('is a page at a time, by state and user', async () => {
    const late = await opened('listed-1');
    await opened('listed-2');
    const page = (await world.admin('GET', '?state=active&limit=1')).body;
    expect(page).toMatchObject({ has_more: true, data: [{ user_id: 'listed-2', state: 'open' }] });
    const next = (await world.admin('GET', `?state=active&limit=1&cursor=${page.next_cursor}`))
      .body;
    expect(next).toMatchObject({
      has_more: false,
      next_cursor: null,
      data: [{ user_id: 'listed-1' }],
    });
    expect((await world.admin('GET', '?user_id=listed-1')).body.data).toHaveLength(1);
    expect((await world.admin('GET', '?user_id=nobody')).body.data).toEqual([]);
    expect((await world.admin('GET', '?cursor=bm90LW91cnM')).status).toBe(400);
    expect((await world.admin('GET', '?state=late')).status).toBe(400);
    await late.act('close');
  });

  it('before anything is done: what the job would do, and why', async () => {
    const late = await opened('previewed');
    const at = new Date(world.clock.now().getTime() + 3 * 86_400_000).toISOString();
    const of = async (target: string) =>
      (await world.admin('GET', target)).body.cases.find(
        (each: { user_id: string }) => each.user_id === 'previewed',
      );
    expect(await of('/preview')).toBeUndefined();
    expect(await of(`/preview?at=${at}`)).toMatchObject({
      case_id: late.case_id,
      step: { step: 2, action: 'mail', urgency: 'second' },
      decision: { action: 'mail', reason: 'day 3' },
      error: null,
    });
    await play([3, 4]);
    await world.pass({ days: 3 });
    expect(await of('/preview')).toMatchObject({
      decision: { action: 'cancel', reason: 'day 10' },
    });
    await world.sandbox.setApiFaults({ status: 500, path: '/v1/invoices' });
    const unread = await of('/preview');
    expect(unread).toMatchObject({ decision: null });
    expect(unread.error).toContain('Stripe');
    await world.sandbox.setApiFaults();
    // Nothing of all this was done.
    expect(await standing(world, late)).toMatchObject({ state: 'open', stripe: 'past_due' });
    expect(await caseOf(world, late)).toMatchObject({ failed_attempts: 0, postponements: 0 });
    await late.act('close');
  });

  it('in sum: cases by state, steps that are overdue, and rates', async () => {
    const before = (await world.admin('GET', '/summary')).body;
    const late = await opened('summed');
    await world.pass({ days: 3 });
    await world.pass({ hours: 1 });
    const { body } = await world.admin('GET', '/summary');
    expect(body).toMatchObject({
      open: before.open + 1,
      recovered: before.recovered,
      canceled: before.canceled,
      overdue_steps: before.overdue_steps + 1 + (before.open - before.overdue_steps),
    });
    expect(body.oldest_overdue_seconds).toBeGreaterThanOrEqual(3_600);
    const [{ all, ended, paid, lost } = { all: 0, ended: 0, paid: 0, lost: 0 }] =
      await database.current.query<{ all: number; ended: number; paid: number; lost: number }>(
        `select count(*)::int as all, count(ended_at)::int as ended,
           count(*) filter (where state = 'recovered')::int as paid,
           count(*) filter (where state = 'canceled')::int as lost from dunning_cases`,
      );
    expect(body.completion_rate).toBeCloseTo(ended / all, 4);
    expect(body.recovery_rate).toBeCloseTo(paid / (paid + lost), 4);
    await late.act('close');
  });
});

describe('the table', () => {
  const MOVES = {
    open: ['paused', 'canceling', 'recovered', 'canceled', 'closed'],
    paused: ['open', 'recovered', 'canceled', 'closed'],
    canceling: ['open', 'recovered', 'canceled', 'closed'],
    recovered: [],
    canceled: [],
    closed: [],
  } as const;

  it('allows these moves of a case and no others', async () => {
    const states = Object.keys(MOVES);
    const rows = await database.current.query<{ was: string; becomes: string }>(
      `select a as was, b as becomes from unnest($1::text[]) a, unnest($1::text[]) b
       where a <> b and purser.dunning_may_become(a, b)`,
      [states],
    );
    const allowed = rows.map(({ was, becomes }) => `${was} ${becomes}`).sort();
    expect(allowed).toEqual(
      Object.entries(MOVES)
        .flatMap(([was, next]) => next.map((becomes) => `${was} ${becomes}`))
        .sort(),
    );
  });

  it('lets nothing that has ended begin again, whoever writes', async () => {
    await expect(
      database.current.query(
        `update dunning_cases set state = 'open', resolution = null, ended_at = null where user_id = 'forgiven'`,
      ),
    ).rejects.toThrow(/cannot go from closed to open/);
  });
});
