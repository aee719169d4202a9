import { describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { type Answer, callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let count = 0;
async function newUser(): Promise<string> {
  count += 1;
  const user = userId(`subscriber-${count}`);
  await call('ensure_user', { p_user_id: user });
  return user;
}

interface Written {
  status?: string;
  state?: Record<string, Json>;
  version?: number;
  asOf?: string;
}

function write(user: string, { status = 'active', state = {}, version, asOf }: Written = {}) {
  return call('set_subscription_state', {
    p_user_id: user,
    p_subscription_id: `sub_${user}`,
    p_status: status,
    p_state: { plan: 'team', tier: 'team', ...state },
    p_version: version,
    p_as_of: asOf,
  });
}

const grant = (user: string, credits: number, lot: Record<string, Json>) =>
  call('grant_credits', {
    p_user_id: user,
    p_type: 'allocation',
    p_key: `grant:${credits}`,
    p_lots: [{ credits, ...lot }],
  });

async function account(user: string) {
  const [row] = await database.current.query<{
    plan: string;
    credits_suspended: boolean;
    credits_version: string;
  }>('select plan, credits_suspended, credits_version from users where id = $1', [user]);
  return row;
}

const consistent = async () =>
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);

describe('a subscription state', () => {
  it('is written once, and is then unchanged whichever version was read', async () => {
    const user = await newUser();
    expect(await write(user, { version: 0 })).toMatchObject({ outcome: 'applied', version: 1 });
    expect(await write(user, { version: 0 })).toMatchObject({ outcome: 'unchanged', version: 1 });
    expect(await account(user)).toMatchObject({ plan: 'team', credits_suspended: false });
  });

  it('never overwrites one that was written since its version was read', async () => {
    const user = await newUser();
    await write(user, { version: 0 });
    await write(user, { version: 1, status: 'past_due' });
    expect(await write(user, { version: 1, state: { quantity: 3 } })).toMatchObject({
      outcome: 'stale',
      version: 2,
      status: 'past_due',
    });
  });

  it('without a version, never overwrites one of a later time', async () => {
    const user = await newUser();
    await write(user, { asOf: '2026-05-02T00:00:00Z', status: 'canceled' });
    expect(await write(user, { asOf: '2026-05-01T00:00:00Z' })).toMatchObject({ outcome: 'stale' });
    expect((await account(user))?.plan).toBe('free');
  });

  it.each([
    ['canceled', 'active'],
    ['canceled', 'past_due'],
    ['incomplete_expired', 'active'],
    ['active', 'incomplete'],
    ['unpaid', 'incomplete_expired'],
    ['canceled', 'hibernating'],
  ])('does not go from %s to %s, and a finding says so', async (from, to) => {
    const user = await newUser();
    await write(user, { status: from });
    expect(await write(user, { status: to, version: 1 })).toMatchObject({
      outcome: 'illegal',
      status: from,
    });
    const findings = await database.current.query(
      `select detail from reconciliation_findings where code = 'illegal_subscription_move' and user_id = $1`,
      [user],
    );
    expect(findings).toEqual([{ detail: { from, to } }]);
  });

  it.each([
    ['incomplete', 'past_due'],
    ['incomplete', 'incomplete_expired'],
    ['trialing', 'unpaid'],
    ['active', 'trialing'],
    ['unpaid', 'active'],
    ['paused', 'active'],
    ['past_due', 'paused'],
    ['active', 'hibernating'],
    ['hibernating', 'active'],
  ])('goes from %s to %s, also where the steps between were not seen', async (from, to) => {
    const user = await newUser();
    await write(user, { status: from });
    expect(await write(user, { status: to, version: 1 })).toMatchObject({
      outcome: 'applied',
      status: to,
    });
  });

  it('of an unknown status neither gives nor takes the plan, and is a finding', async () => {
    const user = await newUser();
    await write(user);
    await write(user, { status: 'hibernating', version: 1 });
    expect((await account(user))?.plan).toBe('team');
    const stranger = await newUser();
    await write(stranger, { status: 'hibernating' });
    expect((await account(stranger))?.plan).toBe('free');
    const [found] = await database.current.query(
      `select times from reconciliation_findings where code = 'unknown_subscription_status' and subject = $1`,
      [`sub_${user}`],
    );
    expect(found).toBeDefined();
  });

  it('belongs to one user; another one is a conflict and a finding', async () => {
    const [owner, other] = [await newUser(), await newUser()];
    await write(owner);
    const answer = await call('set_subscription_state', {
      p_user_id: other,
      p_subscription_id: `sub_${owner}`,
      p_status: 'active',
    });
    expect(answer.outcome).toBe('conflict');
    expect((await account(other))?.plan).toBe('free');
  });

  it('of nobody is not_found, and nothing is written', async () => {
    expect(await write(userId('nobody'))).toMatchObject({ outcome: 'not_found' });
  });

  it('written by twenty at once from one reading is applied once', async () => {
    const user = await newUser();
    await write(user);
    const answers = await concurrently(20, (index) =>
      write(user, { version: 1, state: { quantity: index + 2 } }),
    );
    expect(countBy(answers.map((answer: Answer) => String(answer.outcome)))).toEqual({
      applied: 1,
      stale: 19,
    });
  });
});

describe('a failed payment', () => {
  it('blocks lots of the plan, never bought ones; recovery resumes', async () => {
    const user = await newUser();
    await grant(user, 30, { from_plan: true });
    await grant(user, 50, { paid: true });
    await write(user);
    const suspended = await write(user, {
      status: 'past_due',
      state: { payment_failed: true },
      version: 1,
    });
    expect(suspended).toMatchObject({
      suspended: true,
      plan: 'team',
      mirror: { available: 50, balance: 80, suspended: true },
    });
    const spend = (amount: number) =>
      call('use_credits_validated', { p_user_id: user, p_amount: amount });
    expect(await spend(51)).toMatchObject({ outcome: 'suspended', success: false });
    expect(await spend(50)).toMatchObject({ outcome: 'applied', success: true });
    expect(await write(user, { version: 2 })).toMatchObject({
      suspended: false,
      mirror: { available: 30 },
    });
    const audit = await database.current.query(
      `select reason, after from audit_events where action = 'suspension' and user_id = $1 order by id`,
      [user],
    );
    expect(audit).toEqual([
      { reason: 'a payment of the subscription failed', after: { suspended: true } },
      { reason: 'the subscription is in order', after: { suspended: false } },
    ]);
    await consistent();
  });

  it('of one subscription blocks nothing while another one is in order', async () => {
    const user = await newUser();
    await write(user, { status: 'past_due', state: { payment_failed: true } });
    const second = await call('set_subscription_state', {
      p_user_id: user,
      p_subscription_id: `sub_second_${user}`,
      p_status: 'active',
      p_state: { plan: 'individual' },
    });
    expect(second).toMatchObject({ suspended: false, plan: 'individual' });
    const findings = await database.current.query(
      `select 1 from reconciliation_findings where code = 'several_subscriptions' and subject = $1`,
      [user],
    );
    expect(findings).toHaveLength(1);
  });

  it.each([
    ['past_due without one', 'past_due', false, 'team', false],
    ['unpaid', 'unpaid', true, 'free', true],
    ['paused', 'paused', false, 'free', false],
    ['canceled', 'canceled', false, 'free', false],
  ])('%s: plan and suspension', async (_what, status, payment_failed, plan, suspended) => {
    const user = await newUser();
    expect(await write(user, { status, state: { payment_failed } })).toMatchObject({
      plan,
      suspended,
    });
  });
});

describe('the five-minute cache', () => {
  const state = (user: string, at?: Date) =>
    call('get_user_subscription_state', {
      p_user_id: user,
      p_now: at === undefined ? undefined : at.toISOString(),
    });

  it('answers hits for five minutes, and every change ends it at once', async () => {
    const user = await newUser();
    expect(await state(user)).toMatchObject({ status: 'none', plan: 'free', cached: false });
    expect(await state(user)).toMatchObject({ status: 'none', cached: true });
    await write(user);
    expect(await state(user)).toMatchObject({ status: 'active', plan: 'team', cached: false });
    const [row] = await database.current.query<{ ttl: string }>(
      `select extract(epoch from expires_at - cached_at)::int as ttl from subscription_cache where user_id = $1`,
      [user],
    );
    expect(row?.ttl).toBe(300);
    const later = new Date(Date.now() + 301_000);
    expect(await state(user, later)).toMatchObject({ cached: false });
  });

  it('keeps nothing about who does not exist', async () => {
    expect(await state(userId('unknown'))).toMatchObject({ outcome: 'not_found', cached: false });
    expect(await state(userId('unknown'))).toMatchObject({ outcome: 'not_found', cached: false });
  });

  it('holds no state that was being changed while it was read', async () => {
    const user = await newUser();
    await concurrently(12, (index) =>
      index % 2 === 0 ? state(user) : write(user, { state: { quantity: index } }),
    );
    const last = await state(user);
    const [row] = await database.current.query<{ quantity: string }>(
      'select quantity from subscription where user_id = $1',
      [user],
    );
    expect(String(last.quantity)).toBe(String(row?.quantity));
  });

  it('counts what was used in the period, given back too, and begins anew with a renewal', async () => {
    const user = await newUser();
    await grant(user, 100, {});
    const period = (from: number) => ({
      period_start: new Date(Date.now() + from * 86_400_000).toISOString(),
      period_end: new Date(Date.now() + (from + 30) * 86_400_000).toISOString(),
    });
    const used = async () => {
      await call('update_subscription_cache', { p_user_id: user });
      return (await state(user)).usage;
    };
    await write(user, { state: period(-1) });
    const spent = await call('consume_credits', {
      p_user_id: user,
      p_amount: 30,
      p_key: 'a',
    });
    expect(await used()).toEqual({ credits: 30 });
    await call('refund_usage', {
      p_user_id: user,
      p_transaction_id: spent.transaction_id,
      p_amount: 10,
      p_key: 'back',
    });
    expect(await used()).toEqual({ credits: 20 });
    await write(user, { state: period(29), version: 1 });
    expect(await used()).toEqual({ credits: 0 });
    await call('consume_credits', { p_user_id: user, p_amount: 7, p_key: 'b' });
    expect(await used()).toEqual({ credits: 7 });
    const rows = await database.current.query(
      'select used::int from subscription_usage where user_id = $1 order by period_start',
      [user],
    );
    expect(rows).toEqual([{ used: 20 }, { used: 7 }]);
  });
});

describe('credits of an invoice by hand', () => {
  it('are an allocation under the invoice, once, which its event then only replays', async () => {
    const user = await newUser();
    await call('link_stripe_customer', { p_user_id: user, p_customer_id: `cus_${user}` });
    const add = () =>
      call('add_subscription_credits', {
        p_customer_id: `cus_${user}`,
        p_invoice_id: `in_${user}`,
        p_subscription_id: `sub_${user}`,
        p_credits: 30,
        p_description: 'Manual credit allocation - missed webhook',
      });
    expect(await add()).toMatchObject({ outcome: 'applied', amount: 30, balance: 30 });
    expect(await add()).toMatchObject({ outcome: 'replayed', balance: 30 });
    const event = await call('grant_credits', {
      p_user_id: user,
      p_type: 'allocation',
      p_key: `invoice:in_${user}`,
      p_sources: [`invoice:in_${user}`],
      p_payments: [{ payment: `pi_${user}`, paid: 999, currency: 'usd' }],
      p_lots: [{ credits: 30, from_plan: true }],
    });
    expect(event.outcome).toBe('replayed');
    const entries = await database.current.query(
      `select transaction_type, idempotency_key, metadata ->> 'invoice_id' as invoice from credit_transactions where user_id = $1`,
      [user],
    );
    expect(entries).toEqual([
      {
        transaction_type: 'allocation',
        idempotency_key: `invoice:in_${user}`,
        invoice: `in_${user}`,
      },
    ]);
    await consistent();
  });

  it('of an unknown customer are not_found', async () => {
    expect(
      await call('add_subscription_credits', {
        p_customer_id: 'cus_nobody',
        p_invoice_id: 'in_nobody',
        p_subscription_id: null,
        p_credits: 5,
      }),
    ).toMatchObject({ outcome: 'not_found' });
  });
});

describe('customers', () => {
  const effects = (...list: Json[]) =>
    call('apply_webhook_effects', { p_event_id: null, p_fence: null, p_effects: list });
  const row = async (user: string) =>
    (
      await database.current.query('select email, stripe_customer_id from users where id = $1', [
        user,
      ])
    )[0];

  it('fill an empty e-mail, and overwrite none', async () => {
    const user = await newUser();
    const customer = { kind: 'customer', customer_id: `cus_${user}`, user_id: user };
    await effects({ ...customer, email: 'first@example.com' });
    await effects({ ...customer, email: 'second@example.com' });
    expect(await row(user)).toEqual({
      email: 'first@example.com',
      stripe_customer_id: `cus_${user}`,
    });
  });

  it('that were deleted are sold nothing, and still belong to their user', async () => {
    const user = await newUser();
    const customer = { kind: 'customer', customer_id: `cus_${user}`, user_id: user, email: null };
    await effects(customer);
    await effects({ kind: 'customer_deleted', customer_id: `cus_${user}` });
    await effects(customer, { kind: 'customer_deleted', customer_id: 'cus_unheard_of' });
    expect((await row(user))?.stripe_customer_id).toBeNull();
    expect(await call('find_user_by_customer', { p_customer_id: `cus_${user}` })).toEqual({
      user_id: user,
    });
    expect(await call('get_or_create_stripe_customer', { p_user_id: user })).toMatchObject({
      outcome: 'needs_creation',
      needs_creation: true,
    });
  });

  it('are found or asked for, also of an id that cannot be one', async () => {
    const user = await newUser();
    await call('link_stripe_customer', { p_user_id: user, p_customer_id: `cus_${user}` });
    expect(
      await call('get_or_create_stripe_customer', { p_user_id: user, p_email: 'a@example.com' }),
    ).toMatchObject({ outcome: 'exists', stripe_customer_id: `cus_${user}` });
  });
});

describe('effects', () => {
  it('park an event whose subscription is of a user without a row', async () => {
    const answer = await call('apply_webhook_effects', {
      p_event_id: null,
      p_fence: null,
      p_effects: [
        {
          kind: 'subscription_state',
          user_id: userId('missing'),
          subscription_id: 'sub_missing',
          status: 'active',
          state: {},
          version: 0,
          as_of: null,
          free_plan: 'free',
        },
      ],
    });
    expect(answer).toMatchObject({ outcome: 'parked' });
  });

  it('write nothing when the subscription has moved since it was read', async () => {
    const user = await newUser();
    await write(user);
    const answer = await call('apply_webhook_effects', {
      p_event_id: null,
      p_fence: null,
      p_effects: [
        {
          kind: 'subscription_state',
          user_id: user,
          subscription_id: `sub_${user}`,
          status: 'past_due',
          state: {},
          version: 0,
          free_plan: 'free',
        },
        { kind: 'customer', customer_id: 'cus_never', user_id: user },
      ],
    });
    expect(answer).toMatchObject({ outcome: 'read_again', results: [] });
    expect(await call('find_user_by_customer', { p_customer_id: 'cus_never' })).toEqual({
      user_id: null,
    });
  });
});
