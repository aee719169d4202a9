import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type Stripe from 'stripe';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    deliveries: true,
  });
  await stack.sandbox.setFaults({ drop: true });
  await runJob();
});
afterAll(() => stack.stop());

const admin = (method: string, path: string, body?: unknown) =>
  stack.call(method, `/api/admin/${path}`, {
    bearer: ADMIN_KEY,
    ...(body === undefined ? {} : { body }),
  });

/** Runs the job to its end; another process, or the schedule, may have it just now. */
async function runJob(): Promise<Record<string, unknown>> {
  return waitFor(async () => {
    const { body } = await admin('POST', 'jobs/replay-missed-events/run');
    if (body.outcome === 'failed') throw new Error(JSON.stringify(body));
    return body.outcome === 'done' && body.result;
  }, 'the job');
}

let count = 0;
async function buy(): Promise<{ user: string; session: string }> {
  count += 1;
  const user = userId(`missed-${count}`);
  const { body } = await stack.call('POST', '/api/checkout-session', {
    bearer: await stack.token(user),
    body: { plan: 'pack_50' },
  });
  await stack.sandbox.pay(body.session_id);
  return { user, session: body.session_id };
}

async function balance(user: string): Promise<number> {
  const { body } = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
  return body.balance;
}

async function eventOf(session: string): Promise<Stripe.Event> {
  const events = await stack.stripe.events.list({ type: 'checkout.session.completed', limit: 100 });
  const event = events.data.find(({ data }) => (data.object as { id: string }).id === session);
  if (event === undefined) throw new Error(`There is no event of ${session}.`);
  return event;
}

const settled = () =>
  waitFor(async () => {
    const [open] = await database.current.query<{ n: number }>(
      `select count(*)::int as n from stripe_webhook_events where status in ('received', 'leased', 'failed')`,
    );
    return open?.n === 0;
  }, 'the inbox');

describe('events Stripe never delivered', () => {
  it('are fetched by the job, credited once, and not fetched again', async () => {
    const bought = [await buy(), await buy(), await buy()];
    for (const { user } of bought) expect(await balance(user)).toBe(0);
    const run = await runJob();
    expect(run).toMatchObject({ complete: true });
    expect(run.received).toBeGreaterThanOrEqual(3);
    await settled();
    for (const { user } of bought) expect(await balance(user)).toBe(50);

    expect(await runJob()).toMatchObject({ received: 0, duplicates: run.listed });
    const event = await eventOf(bought[0]?.session ?? '');
    expect(await stack.deliver(event)).toMatchObject({ status: 200, body: { duplicate: true } });
    await settled();
    for (const { user } of bought) expect(await balance(user)).toBe(50);

    const state = await admin('GET', 'stripe/replay-missed-events');
    expect(state).toMatchObject({
      status: 200,
      body: { last_run: { outcome: 'done', result: { received: 0 } } },
    });
    expect(Date.parse(state.body.position)).toBeGreaterThan(0);
  });

  it('are not those that a thin notification has told of, under an id of its own', async () => {
    const since = new Date(Date.now() - 60_000).toISOString();
    const { user, session } = await buy();
    const { id, type } = await eventOf(session);
    const { status } = await stack.deliver({
      id: `evt_test_${id}`,
      object: 'v2.core.event',
      type: `v1.${type}`,
      created: new Date().toISOString(),
      livemode: false,
      related_object: { id: session, type: 'checkout.session', url: `/v1/checkout/${session}` },
      snapshot_event: id,
    });
    expect(status).toBe(200);
    await settled();
    expect(await balance(user)).toBe(50);
    const dry = await admin('POST', 'stripe/replay-missed-events', { since, dry_run: true });
    expect(dry.body.event_ids).not.toContain(id);
    await runJob();
    expect((await admin('GET', `stripe/webhook-logs/${id}`)).status).toBe(404);
    await settled();
  });

  it('are shown by a dry run, and fetched by an admin since a time', async () => {
    const since = new Date(Date.now() - 60_000).toISOString();
    const { user, session } = await buy();
    const { id } = await eventOf(session);
    const replay = (body: unknown) => admin('POST', 'stripe/replay-missed-events', body);
    const dry = await replay({ since, dry_run: true });
    expect(dry).toMatchObject({ status: 200, body: { dry_run: true, complete: true } });
    expect(dry.body.event_ids).toContain(id);
    expect(await balance(user)).toBe(0);
    const real = await replay({ since });
    expect(real.body).toMatchObject({ dry_run: false, event_ids: dry.body.event_ids });
    await settled();
    expect(await balance(user)).toBe(50);
    expect(
      await database.current.query(
        `select count(*)::int as n from audit_events where action = 'replay_missed_events' and actor like 'admin:%'`,
      ),
    ).toEqual([{ n: 1 }]);
    expect(await replay({ since: '2020-01-01' })).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', errors: [{ path: 'since' }] },
    });
  });

  it('are credited once when deliveries, the job and an admin come together', async () => {
    const bought = await Promise.all(Array.from({ length: 8 }, () => buy()));
    const events = await Promise.all(bought.map(({ session }) => eventOf(session)));
    const since = new Date(Date.now() - 120_000).toISOString();
    await Promise.all([
      ...events.flatMap((event) => [stack.deliver(event), stack.deliver(event)]),
      runJob(),
      admin('POST', 'stripe/replay-missed-events', { since }),
      admin('POST', 'stripe/retry-webhooks', { event_ids: events.map(({ id }) => id) }),
    ]);
    await settled();
    for (const { user } of bought) expect(await balance(user)).toBe(50);
    const [entries] = await database.current.query<{ n: number }>(
      `select count(*)::int as n from credit_transactions where user_id = any($1)`,
      [bought.map(({ user }) => user)],
    );
    expect(entries).toEqual({ n: 8 });
  });
});
