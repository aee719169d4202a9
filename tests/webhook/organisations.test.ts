/** Events of an organisation's destination: `context` names the account that they are of. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

/** The account of the sandbox. */
const OWN = 'acct_sandbox';
const database = testDatabase();
let stack: Stack;
/** Nothing runs by itself, so that no process takes up another's event. */
const quiet = () => ({
  connectionString: database.current.connectionString,
  every: () => ({ stop() {} }),
});
beforeAll(async () => {
  stack = await startStack(quiet());
});
afterAll(() => stack.stop());

let count = 0;
/** A paid session whose event has not come yet. */
async function buy(): Promise<{ user: string; session: string }> {
  count += 1;
  const user = userId(`organisation-${count}`);
  const { body } = await stack.call('POST', '/api/checkout-session', {
    bearer: await stack.token(user),
    body: { plan: 'pack_50' },
  });
  await stack.sandbox.pay(body.session_id);
  return { user, session: body.session_id };
}

function snapshot(session: string, fields: Record<string, unknown>) {
  count += 1;
  return {
    id: `evt_org_${count}`,
    object: 'event',
    type: 'checkout.session.completed',
    created: Math.floor(Date.now() / 1000),
    livemode: false,
    data: { object: { id: session, object: 'checkout.session' } },
    ...fields,
  };
}

function thin(session: string, fields: Record<string, unknown>) {
  count += 1;
  return {
    id: `evt_org_thin_${count}`,
    object: 'v2.core.event',
    type: 'v1.checkout.session.completed',
    created: new Date().toISOString(),
    livemode: false,
    related_object: { id: session, type: 'checkout.session' },
    ...fields,
  };
}

async function admin(method: string, path: string, body?: unknown, at: Stack = stack) {
  const answer = await at.call(method, `/api/admin/${path}`, {
    bearer: ADMIN_KEY,
    ...(body === undefined ? {} : { body }),
  });
  expect(answer.status).toBe(200);
  return answer.body;
}

type Shown = { status: string; reason: string | null; error_code: string | null };

/** What became of an event once nobody works on it. */
async function became(event: { id: string }, at: Stack = stack): Promise<Shown> {
  expect((await at.deliver(event)).status).toBe(200);
  return waitFor(async () => {
    const shown: Shown = await admin('GET', `stripe/webhook-logs/${event.id}`, undefined, at);
    return ['received', 'leased'].includes(shown.status) ? null : shown;
  }, `${event.id} to end`);
}

async function balance(user: string): Promise<number> {
  const { body } = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
  return body.balance;
}

const findings = async (eventId: string) =>
  (
    await database.current.query<{ code: string }>(
      'select code from reconciliation_findings where subject = $1',
      [eventId],
    )
  ).map(({ code }) => code);

async function alertsOf(account: string): Promise<string[]> {
  const { data } = await admin('GET', 'alerts?status=open');
  return data
    .filter(({ subject }: { subject: string }) => subject === account)
    .map(({ code }: { code: string }) => code);
}

describe.each([
  ['a snapshot', snapshot],
  ['a thin notification', thin],
])('%s', (_form, event) => {
  it.each([
    ['an account', 'acct_sister'],
    ['a path', 'org_group/acct_sister'],
    ['a connected account of ours', `${OWN}/acct_sister`],
    ['a connected account of ours in the organisation', `org_group/${OWN}/acct_sister`],
  ])('of another account, told by %s, is refused visibly', async (_what, context) => {
    const told = event(`cs_test_of_a_sister_${count}`, { context });
    expect(await became(told)).toMatchObject({
      status: 'ignored',
      reason: expect.stringContaining('acct_sister'),
    });
    expect(await findings(told.id)).toEqual(['foreign_account']);
    expect(await alertsOf('acct_sister')).toEqual(['foreign_account']);
  });

  it('of the organisation itself is of no account, and refused', async () => {
    const told = event('cs_test_of_nobody', { context: 'org_group' });
    expect(await became(told)).toMatchObject({ status: 'ignored' });
    expect(await findings(told.id)).toEqual(['foreign_account']);
  });

  it.each([
    ['an account', OWN],
    ['a path', `org_group/${OWN}`],
    ['nothing in it', ''],
    ['null', null],
  ])('of our own account, with %s as context, is credited', async (_what, context) => {
    const { user, session } = await buy();
    const told = event(session, { context });
    expect(await became(told)).toMatchObject({ status: 'processed' });
    expect(await balance(user)).toBe(50);
    expect(await findings(told.id)).toEqual([]);
  });
});

it('`account` says it too: another one is refused, our own is ours', async () => {
  const { user, session } = await buy();
  const other = snapshot(session, { account: 'acct_merchant', context: 'acct_merchant' });
  expect(await became(other)).toMatchObject({ status: 'ignored' });
  expect(await balance(user)).toBe(0);
  expect(await became(snapshot(session, { account: OWN, context: OWN }))).toMatchObject({
    status: 'processed',
  });
  expect(await balance(user)).toBe(50);
});

it('no further call to Stripe is made for it once our account is known', async () => {
  await became(snapshot('cs_test_of_a_sister_once', { context: 'acct_sister' }));
  await stack.sandbox.setApiFaults({ path: '/v1/account', status: 500 });
  try {
    const told = snapshot('cs_test_of_a_sister_again', { context: 'acct_sister' });
    expect(await became(told)).toMatchObject({ status: 'ignored' });
  } finally {
    await stack.sandbox.setApiFaults();
  }
});

describe('while nobody can say which account is ours', () => {
  it('an outage of Stripe refuses nothing: the event is tried again', async () => {
    const fresh = await startStack({ ...quiet(), sandbox: stack.sandbox });
    try {
      const { user, session } = await buy();
      await stack.sandbox.setApiFaults({ path: '/v1/account', status: 500 });
      const told = snapshot(session, { context: OWN });
      expect(await became(told, fresh)).toMatchObject({
        status: 'failed',
        error_code: 'stripe_error',
      });
      await stack.sandbox.setApiFaults();
      await admin('POST', 'stripe/retry-webhooks', { event_ids: [told.id] }, fresh);
      await admin('POST', 'jobs/webhook-sweep/run', undefined, fresh);
      expect(await balance(user)).toBe(50);
    } finally {
      await stack.sandbox.setApiFaults();
      await fresh.stop();
    }
  });

  it('a key that may not ask loses nothing: our own events are credited', async () => {
    const key = await stack.sandbox.restrictedKey({
      charge: 'read',
      checkout_session: 'read',
      customer: 'read',
      invoice: 'read',
      payment_intent: 'read',
      plan: 'read',
      product: 'read',
    });
    const restricted = await startStack({
      ...quiet(),
      sandbox: stack.sandbox,
      env: { STRIPE_SECRET_KEY: key },
    });
    try {
      const { user, session } = await buy();
      const ours = snapshot(session, { context: OWN });
      expect(await became(ours, restricted)).toMatchObject({ status: 'processed' });
      expect(await balance(user)).toBe(50);
      // Stripe has no such object for this key: seen as a failure, and credited to nobody.
      const sister = snapshot('cs_test_of_a_sister_unknown', { context: 'acct_sister' });
      expect(await became(sister, restricted)).toMatchObject({
        status: 'failed',
        error_code: 'stripe_object_missing',
      });
      const merchant = snapshot('cs_test_of_a_merchant', { account: 'acct_merchant' });
      expect(await became(merchant, restricted)).toMatchObject({ status: 'ignored' });
      const told = restricted.logs.filter(({ message }) => message.includes('Accounts'));
      expect(told.map(({ level }) => level)).toEqual(['warn']);
    } finally {
      await restricted.stop();
    }
  });
});
