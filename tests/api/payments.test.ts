import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase, userId } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';

const database = testDatabase();
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({ connectionString: database.current.connectionString });
});
afterAll(() => stack.stop());

let count = 0;
/** A user who has bought 50 credits for 500, and the payment intent of it. */
async function buyer(): Promise<{ user: string; payment: string }> {
  count += 1;
  const user = userId(`paid-${count}`);
  const bearer = await stack.token(user);
  const body = { plan: 'pack_50' };
  const session = await stack.call('POST', '/api/checkout-session', { bearer, body });
  const id = session.body.session_id;
  await stack.sandbox.pay(id);
  await stack.call('POST', `/api/checkout-session/${id}/fulfill`, { bearer });
  const { payment_intent } = await stack.stripe.checkout.sessions.retrieve(id);
  return { user, payment: String(payment_intent) };
}

const read = (payment: string, bearer = ADMIN_KEY) =>
  stack.call('GET', `/api/admin/payments/${payment}`, { bearer });
const write = (payment: string, fields: Record<string, unknown> = {}, bearer = ADMIN_KEY) =>
  stack.call('POST', `/api/admin/payments/${payment}/state`, {
    bearer,
    body: { version: 1, paid: 500, refunded: 0, disputed: 0, reason: 'as told', ...fields },
  });

describe('a payment in the hands of an admin', () => {
  it('is known from its purchase, and its refund takes credits back where they are checked', async () => {
    const { user, payment } = await buyer();
    expect(await read(payment)).toMatchObject({
      status: 200,
      body: {
        payment,
        version: 1,
        user_id: user,
        currency: 'usd',
        paid: 500,
        refunded: 0,
        settlement: { granted: 50, settled: 500, target: 0, clawed: 0, entries: [] },
      },
    });
    const refund = await write(payment, { refunded: 200 });
    expect(refund).toMatchObject({
      status: 200,
      body: { outcome: 'applied', version: 2, refunded: 200, amount: -20 },
    });
    await waitFor(async () => {
      const answer = await stack.call('POST', '/api/credits/check', {
        bearer: SERVICE_KEY,
        body: { user_id: user, amount: 1 },
      });
      return answer.body.source === 'redis' && answer.body.balance === 30;
    }, 'the copy in Redis');
    const { body } = await read(payment);
    expect(body.settlement.entries).toEqual([
      {
        transaction_id: refund.body.transaction_id,
        transaction_type: 'clawback',
        amount: -20,
        created_at: expect.any(String),
      },
    ]);
    const list = await stack.call('GET', `/api/users/${user}/transactions`, {
      bearer: SERVICE_KEY,
    });
    expect(list.body.data[0]).toMatchObject({
      id: refund.body.transaction_id,
      transaction_type: 'clawback',
      amount: -20,
      stripe_payment_intent_id: payment,
    });
  });

  it('says stale to whoever read it before it moved, and unchanged to a repetition', async () => {
    const { user, payment } = await buyer();
    await write(payment, { disputed: 500 });
    expect(await write(payment, { disputed: 0 })).toMatchObject({
      status: 200,
      body: { outcome: 'stale', version: 2, disputed: 500, transaction_id: null, amount: null },
    });
    expect(await write(payment, { version: 2, disputed: 500 })).toMatchObject({
      body: { outcome: 'unchanged', version: 2, transaction_id: null },
    });
    expect(await write(payment, { version: 2 })).toMatchObject({
      body: { outcome: 'applied', version: 3, amount: 50 },
    });
    const balance = await stack.call('GET', `/api/users/${user}/credits`, { bearer: SERVICE_KEY });
    expect(balance.body).toMatchObject({ balance: 50, debt: 0 });
    expect(
      await database.current.query(
        `select actor, reason from audit_events where user_id = $1 and action = 'set_payment_state' order by id`,
        [user],
      ),
    ).toEqual([
      { actor: expect.stringMatching(/^admin/), reason: 'as told' },
      { actor: expect.stringMatching(/^admin/), reason: 'as told' },
    ]);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['no reason', { reason: ' ' }, 'reason'],
    ['no version', { version: undefined }, 'version'],
    ['a negative amount', { refunded: -1 }, 'refunded'],
    ['a fraction', { paid: 4.5 }, 'paid'],
    ['a currency that is none', { currency: 'dollars' }, 'currency'],
    ['a field that is none', { credits: 5 }, 'credits'],
  ])('is refused with %s, and told where', async (_what, fields, path) => {
    const answer = await write('pi_unknown', fields);
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
    expect(JSON.stringify(answer.body.errors)).toContain(path);
  });

  it('that nobody knows is not found, and neither is customer balance', async () => {
    expect(await read('pi_nobody')).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(await read('balance:in_1')).toMatchObject({ status: 400 });
  });

  it('is for admins alone', async () => {
    const token = await stack.token(userId('no-admin'));
    for (const bearer of [SERVICE_KEY, token]) {
      expect([401, 403]).toContain((await read('pi_nobody', bearer)).status);
      expect([401, 403]).toContain((await write('pi_nobody', {}, bearer)).status);
    }
  });
});
