import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { paidCharge } from './support/money.ts';
import { openSession, stripeFor, type TestSandbox, testSandbox } from './support/sandbox.ts';

/** The SDK as products use it: it asks again, with the key it made. */
function patient({ secretKey, host, port }: TestSandbox, retries: number): Stripe {
  return new Stripe(secretKey, { host, port, protocol: 'http', maxNetworkRetries: retries });
}

describe('the API on demand', () => {
  it('limits the rate, of one path and so many times', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    await sandbox.setApiFaults({ status: 429, path: '/v1/customers', method: 'POST', times: 2 });
    for (let count = 0; count < 2; count += 1) {
      await expect(stripe.customers.create({})).rejects.toMatchObject({
        type: 'StripeRateLimitError',
        statusCode: 429,
        code: 'rate_limit',
        headers: expect.objectContaining({ 'stripe-rate-limited-reason': 'global-rate' }),
      });
      await stripe.customers.list();
      await stripe.products.create({ name: 'x' });
    }
    await stripe.customers.create({});
    expect((await stripe.customers.list()).data).toHaveLength(1);
  });

  it('breaks down before the work, and the SDK gets it done with its next try', async () => {
    const sandbox = await testSandbox();
    await sandbox.setApiFaults({ status: 503, times: 1 });
    await patient(sandbox, 1).customers.create({ name: 'Ada' });
    expect((await sandbox.stripe.customers.list()).data).toHaveLength(1);
  });

  it.each([
    ['with a 500', { status: 500 }],
    ['without an answer', { answer: 'lost' }],
  ] as const)('breaks down after the work %s, and nothing is done twice', async (_how, fault) => {
    const sandbox = await testSandbox();
    const { charge } = await paidCharge(sandbox);
    await sandbox.setApiFaults({ ...fault, carried_out: true, path: '/v1/refunds', times: 1 });
    const refund = await patient(sandbox, 1).refunds.create({ charge: charge.id, amount: 100 });
    expect((await sandbox.stripe.refunds.list()).data.map(({ id }) => id)).toEqual([refund.id]);
    await sandbox.setApiFaults({ ...fault, carried_out: true });
    await expect(patient(sandbox, 0).customers.create({})).rejects.toMatchObject({
      type: 'answer' in fault ? 'StripeConnectionError' : 'StripeAPIError',
    });
    await sandbox.setApiFaults();
    expect((await sandbox.stripe.customers.list()).data).toHaveLength(1);
  });

  it('loses a request before the work', async () => {
    const sandbox = await testSandbox();
    // The SDK tries once more after a cut connection, also with no retries allowed.
    await sandbox.setApiFaults({ answer: 'lost', method: 'POST' });
    await expect(patient(sandbox, 0).customers.create({})).rejects.toMatchObject({
      type: 'StripeConnectionError',
    });
    expect((await sandbox.stripe.customers.list()).data).toEqual([]);
  });

  it('fails for a share of the requests, the same ones with the same seed', async () => {
    const outcomes = async () => {
      const sandbox = await testSandbox();
      await sandbox.setApiFaults({ status: 502, probability: 0.4 });
      const found = [];
      for (let count = 0; count < 40; count += 1) {
        found.push((await sandbox.call('GET', '/v1/customers')).status);
      }
      await sandbox.setApiFaults();
      return found;
    };
    const first = await outcomes();
    expect(new Set(first)).toEqual(new Set([200, 502]));
    expect(await outcomes()).toEqual(first);
  });

  it('says what is wrong with a fault', async () => {
    const sandbox = await testSandbox();
    await expect(sandbox.setApiFaults({})).rejects.toThrow('say either a status');
    await expect(sandbox.setApiFaults({ status: 404 })).rejects.toThrow('rules.0.status');
    await expect(sandbox.setApiFaults({ status: 429, carried_out: true })).rejects.toThrow(
      'never carried out',
    );
  });
});

describe('a restricted key', () => {
  it('does what it may and is told the permission it lacks', async () => {
    const sandbox = await testSandbox();
    const key = await sandbox.restrictedKey({ customer: 'write', charge: 'read' });
    const restricted = stripeFor({ ...sandbox, secretKey: key });
    await restricted.customers.create({});
    expect((await restricted.customers.list()).data).toHaveLength(1);
    const { charge } = await paidCharge(sandbox);
    expect((await restricted.charges.retrieve(charge.id)).id).toBe(charge.id);
    for (const [ask, permission] of [
      [() => restricted.refunds.create({ charge: charge.id }), 'rak_charge_write'],
      [() => restricted.prices.list(), 'rak_plan_read'],
      [() => restricted.checkout.sessions.list(), 'rak_checkout_session_read'],
      [() => restricted.v2.core.events.list(), 'rak_event_read'],
    ] as const) {
      await expect(ask()).rejects.toMatchObject({
        type: 'StripePermissionError',
        statusCode: 403,
        message: expect.stringContaining(`Having the '${permission}' permission`),
      });
    }
    await expect(restricted.customers.retrieve('cus_x')).rejects.toMatchObject({ statusCode: 404 });
    expect((await sandbox.stripe.refunds.list()).data).toEqual([]);
  });

  it('must exist and be made of permissions there are', async () => {
    const sandbox = await testSandbox();
    await expect(sandbox.restrictedKey({ customers: 'read' })).rejects.toThrow(
      'the names must be some of',
    );
    const other = stripeFor({ ...sandbox, secretKey: 'rk_test_sandbox_x' });
    await expect(other.customers.list()).rejects.toMatchObject({
      type: 'StripeAuthenticationError',
    });
  });
});

describe('a deleted customer', () => {
  it('answers as deleted wherever it is expanded, and cannot buy', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const { id: customer } = await stripe.customers.create({ email: 'ada@example.com' });
    const { charge, intent } = await paidCharge(sandbox, {}, { customer });
    const refund = await stripe.refunds.create({ charge: charge.id, amount: 1 });
    await stripe.customers.del(customer);
    const gone = { id: customer, object: 'customer', deleted: true };
    expect(await stripe.customers.retrieve(customer)).toMatchObject(gone);
    for (const found of [
      await stripe.charges.retrieve(charge.id, { expand: ['customer'] }),
      await stripe.paymentIntents.retrieve(intent, { expand: ['customer'] }),
      await stripe.refunds.retrieve(refund.id, { expand: ['charge.customer', 'customer'] }),
    ]) {
      expect(found.customer).toEqual(gone);
    }
    expect((await stripe.charges.list({ customer, expand: ['data.customer'] })).data).toMatchObject(
      [{ customer: gone }],
    );
    await expect(openSession(sandbox, { customer })).rejects.toMatchObject({
      code: 'resource_missing',
      param: 'customer',
    });
    await expect(stripe.customers.update(customer, { name: 'x' })).rejects.toMatchObject({
      statusCode: 404,
    });
    expect((await stripe.customers.list()).data).toEqual([]);
  });
});
