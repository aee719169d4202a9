import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { startSandbox } from '../../src/sandbox/index.ts';
import { openSession, testSandbox } from './support/sandbox.ts';

describe('keys', () => {
  it.each([
    ['none', {}, 'You did not provide an API key'],
    [
      'a wrong one',
      { authorization: 'Bearer sk_test_wrong12345' },
      'Invalid API Key provided: sk_test_********2345',
    ],
    ['a live one', { authorization: 'Bearer sk_live_abcdef' }, 'refused'],
    ['a live restricted one', { authorization: 'Bearer rk_live_abcdef' }, 'refused'],
  ])('are needed: %s is answered 401', async (_name, headers, message) => {
    const sandbox = await testSandbox();
    const response = await fetch(`${sandbox.origin}/v1/customers`, { headers: headers as never });
    expect(response.status).toBe(401);
    expect(response.headers.get('request-id')).toMatch(/^req_/);
    const { error } = (await response.json()) as { error: { type: string; message: string } };
    expect(error).toMatchObject({ type: 'invalid_request_error' });
    expect(error.message).toContain(message);
    expect(error.message).not.toContain('abcdef');
  });

  it('become the SDK authentication error', async () => {
    const { host, port } = await testSandbox();
    const stripe = new Stripe('sk_test_other', { host, port, protocol: 'http' });
    await expect(stripe.customers.list()).rejects.toMatchObject({
      type: 'StripeAuthenticationError',
    });
  });

  it('work as the user name of basic auth and for checking the account', async () => {
    const sandbox = await testSandbox();
    const basic = Buffer.from(`${sandbox.secretKey}:`).toString('base64');
    const answer = await sandbox.call(
      'GET',
      '/v1/account',
      {},
      { authorization: `Basic ${basic}` },
    );
    expect(answer.body.id).toBe('acct_sandbox');
    expect((await sandbox.stripe.accounts.retrieveCurrent()).charges_enabled).toBe(true);
    const session = await openSession(sandbox);
    await sandbox.pay(session.id);
    expect((await sandbox.stripe.balance.retrieve()).available).toMatchObject([
      { amount: 500, currency: 'usd' },
    ]);
  });
});

describe('what the sandbox does not serve', () => {
  it.each([
    ['an unknown resource', 'GET', '/v1/quotes'],
    ['a misspelt resource', 'POST', '/v1/checkout/session'],
    ['a method the resource does not have', 'DELETE', '/v1/prices/price_x'],
    ['a trailing slash', 'GET', '/v1/customers/'],
    ['the second API', 'GET', '/v2/core/accounts'],
    ['a search, which is no id', 'GET', '/v1/customers/search'],
    ['a preview, which is no id', 'POST', '/v1/invoices/create_preview'],
  ])('is an error, never a success: %s', async (_name, method, path) => {
    const sandbox = await testSandbox();
    const { status, body } = await sandbox.call(method, path);
    expect(status).toBe(404);
    expect(body.error?.message).toContain(`Unrecognized request URL (${method}: ${path})`);
  });

  it.each([
    ['customers', (stripe: Stripe) => stripe.customers.retrieve('cus_x'), 'id'],
    ['prices', (stripe: Stripe) => stripe.prices.retrieve('price_x'), 'id'],
    ['products', (stripe: Stripe) => stripe.products.retrieve('prod_x'), 'id'],
    ['sessions', (stripe: Stripe) => stripe.checkout.sessions.retrieve('cs_x'), 'id'],
    ['payment intents', (stripe: Stripe) => stripe.paymentIntents.retrieve('pi_x'), 'intent'],
    ['payment methods', (stripe: Stripe) => stripe.paymentMethods.retrieve('pm_x'), 'id'],
    ['charges', (stripe: Stripe) => stripe.charges.retrieve('ch_x'), 'id'],
    ['invoices', (stripe: Stripe) => stripe.invoices.retrieve('in_x'), 'invoice'],
    ['invoice payments', (stripe: Stripe) => stripe.invoicePayments.retrieve('inpay_x'), 'id'],
    ['events', (stripe: Stripe) => stripe.events.retrieve('evt_x'), 'id'],
    ['webhook endpoints', (stripe: Stripe) => stripe.webhookEndpoints.retrieve('we_x'), 'id'],
  ])('is resource_missing for unknown %s', async (_name, ask, param) => {
    const { stripe } = await testSandbox();
    await expect(ask(stripe)).rejects.toMatchObject({
      statusCode: 404,
      code: 'resource_missing',
      param,
      requestId: expect.stringMatching(/^req_/),
    });
  });

  it('is named for other API versions and other encodings', async () => {
    const sandbox = await testSandbox();
    const version = await sandbox.call(
      'GET',
      '/v1/customers',
      {},
      { 'stripe-version': '2024-06-20' },
    );
    expect(version).toMatchObject({
      status: 400,
      body: { error: { message: expect.stringContaining('2024-06-20') } },
    });
    const response = await fetch(`${sandbox.origin}/v1/customers`, {
      method: 'POST',
      headers: { authorization: `Bearer ${sandbox.secretKey}`, 'content-type': 'application/json' },
      body: '{}',
    });
    expect(response.status).toBe(400);
  });
});

describe('requests', () => {
  it('name every unknown parameter at once', async () => {
    const sandbox = await testSandbox();
    const { status, body } = await sandbox.call('POST', '/v1/customers', {
      colour: 'red',
      'shape[x]': 'y',
    });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({
      code: 'parameter_unknown',
      param: 'colour',
      message: 'Received unknown parameters: colour, shape',
    });
  });

  it.each([
    ['metadata given as text', { metadata: 'x' }, 'metadata'],
    ['text given as a group', { 'name[x]': 'y' }, 'name'],
    ['a value and a group', { 'address[city]': 'x', address: 'y' }, 'address'],
    ['an empty boolean', { validate: '' }, 'validate'],
    ['a broken name', { 'a[b': 'c' }, 'a[b'],
    [
      '51 keys of metadata',
      Object.fromEntries(Array.from({ length: 51 }, (_, at) => [`metadata[k${at}]`, 'v'])),
      'metadata',
    ],
    ['a list with names', { 'preferred_locales[x]': 'en' }, 'preferred_locales'],
  ])('of the wrong form are refused: %s', async (_name, form, param) => {
    const sandbox = await testSandbox();
    const { status, body } = await sandbox.call('POST', '/v1/customers', form as never);
    expect(status).toBe(400);
    expect(body.error?.param).toBe(param);
  });

  it('keep metadata keys that look like prototypes as data', async () => {
    const sandbox = await testSandbox();
    const { body } = await sandbox.call('POST', '/v1/customers', {
      'metadata[__proto__]': 'x',
      'metadata[constructor]': 'y',
    });
    const { metadata } = (await sandbox.stripe.customers.retrieve(
      body.id ?? '',
    )) as Stripe.Customer;
    expect(JSON.stringify(metadata)).toBe('{"__proto__":"x","constructor":"y"}');
  });

  it('of more than a megabyte are refused', async () => {
    const sandbox = await testSandbox();
    const response = await fetch(`${sandbox.origin}/v1/customers`, {
      method: 'POST',
      headers: { authorization: `Bearer ${sandbox.secretKey}` },
      body: new URLSearchParams({ description: 'x'.repeat(1_100_000) }),
    });
    expect(response.status).toBe(413);
    expect((await sandbox.stripe.customers.list()).data).toEqual([]);
  });
});

describe('idempotency keys', () => {
  it('answer the same request with the saved answer', async () => {
    const sandbox = await testSandbox();
    const key = { 'idempotency-key': 'k1' };
    const form = { name: 'Ada', 'metadata[a]': '1', 'metadata[b]': '2' };
    const first = await sandbox.call('POST', '/v1/customers', form, key);
    const again = await sandbox.call(
      'POST',
      '/v1/customers',
      { 'metadata[b]': '2', name: 'Ada', 'metadata[a]': '1' },
      key,
    );
    expect(again.body).toEqual(first.body);
    expect(first.headers.get('idempotent-replayed')).toBeNull();
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(again.headers.get('original-request')).toBe(first.headers.get('request-id'));
    expect((await sandbox.stripe.customers.list()).data).toHaveLength(1);
  });

  it('replay the answer as it was, not as the object is now', async () => {
    const sandbox = await testSandbox();
    const options = { idempotencyKey: 'open' };
    const params = {
      mode: 'payment' as const,
      line_items: [{ price: 'price_pack_50', quantity: 1 }],
      success_url: 'http://127.0.0.1/ok',
    };
    await openSession(sandbox);
    const session = await sandbox.stripe.checkout.sessions.create(params, options);
    await sandbox.pay(session.id);
    const again = await sandbox.stripe.checkout.sessions.create(params, options);
    expect(again).toMatchObject({ id: session.id, status: 'open', url: session.url });
  });

  it.each([
    ['other parameters', '/v1/customers', { name: 'Bob' }],
    ['another call', '/v1/products', { name: 'Ada' }],
  ])('refuse %s', async (_name, path, form) => {
    const sandbox = await testSandbox();
    await sandbox.stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k1' });
    const { status, body } = await sandbox.call('POST', path, form, { 'idempotency-key': 'k1' });
    expect(status).toBe(400);
    expect(body.error?.type).toBe('idempotency_error');
  });

  it('are not bound by a refused request', async () => {
    const sandbox = await testSandbox();
    const options = { idempotencyKey: 'k1' };
    await expect(sandbox.stripe.customers.create({ email: 'bad' }, options)).rejects.toThrow();
    expect(
      await sandbox.stripe.customers.create({ email: 'ada@example.com' }, options),
    ).toBeTruthy();
  });

  it('can be used anew after a day', async () => {
    let now = Date.parse('2026-11-01T00:00:00Z');
    const sandbox = await testSandbox({ now: () => now });
    const options = { idempotencyKey: 'k1' };
    const first = await sandbox.stripe.customers.create({ name: 'Ada' }, options);
    now += 24 * 3_600_000;
    expect((await sandbox.stripe.customers.create({ name: 'Ada' }, options)).id).not.toBe(first.id);
  });

  it('may have 255 characters', async () => {
    const { stripe } = await testSandbox();
    expect(await stripe.customers.create({}, { idempotencyKey: 'k'.repeat(255) })).toBeTruthy();
    await expect(stripe.customers.create({}, { idempotencyKey: 'k'.repeat(256) })).rejects.toThrow(
      '255',
    );
  });
});

describe('this machine only', () => {
  it('is the only place it listens', async () => {
    await expect(startSandbox({ host: '0.0.0.0' })).rejects.toThrow('serves this machine only');
  });

  it('is checked by name too, against names that are made to point here', async () => {
    const sandbox = await testSandbox();
    const { request } = await import('node:http');
    const status = await new Promise((resolve, reject) => {
      request(
        `${sandbox.origin}/_sandbox/health`,
        { headers: { host: 'evil.example' } },
        (response) => {
          response.resume();
          resolve(response.statusCode);
        },
      )
        .on('error', reject)
        .end();
    });
    expect(status).toBe(403);
  });

  it('does not start in production', async () => {
    const before = process.env.NODE_ENV;
    process.env.NODE_ENV = 'production';
    try {
      await expect(startSandbox()).rejects.toThrow('NODE_ENV=production');
    } finally {
      process.env.NODE_ENV = before;
    }
  });

  it('takes control calls only as JSON that a foreign page could not send', async () => {
    const sandbox = await testSandbox();
    const url = `${sandbox.origin}/_sandbox/faults`;
    const plain = await fetch(url, { method: 'PUT', body: '{"drop":true}' });
    expect(plain.status).toBe(400);
    const broken = await fetch(url, {
      method: 'PUT',
      body: '{',
      headers: { 'content-type': 'application/json' },
    });
    expect(broken.status).toBe(400);
    await expect(sandbox.setFaults({ dupe: 3 } as never)).rejects.toThrow('dupe');
    expect((await fetch(`${sandbox.origin}/_sandbox/nothing`)).status).toBe(404);
  });
});
