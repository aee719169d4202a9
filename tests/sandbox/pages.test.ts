import { describe, expect, it } from '@jest/globals';
import {
  catalogue,
  eventually,
  openSession,
  receiver,
  type TestSandbox,
  testSandbox,
} from './support/sandbox.ts';

const CARD = {
  action: 'pay',
  email: 'ada@example.com',
  method: 'card',
  card_number: '4242 4242 4242 4242',
  expiry: '12 / 34',
  cvc: '123',
  name: 'Ada',
  country: 'GB',
};

async function press(url: string, form: Record<string, string>) {
  const response = await fetch(url, {
    method: 'POST',
    body: new URLSearchParams(form),
    redirect: 'manual',
  });
  return {
    status: response.status,
    location: response.headers.get('location'),
    page: await response.text(),
  };
}

async function open(sandbox: TestSandbox, more = {}) {
  const session = await openSession(sandbox, more);
  return { id: session.id, url: String(session.url) };
}

describe('the checkout page', () => {
  it('shows what is sold, for how much, and that it is a sandbox', async () => {
    const sandbox = await testSandbox();
    const { url } = await open(sandbox, {
      line_items: [{ price: 'price_pack_50', quantity: 3 }],
      customer_email: 'ada@example.com',
    });
    const response = await fetch(url);
    const page = await response.text();
    expect(response.status).toBe(200);
    for (const text of [
      'SANDBOX',
      'no real money',
      '50 credits',
      'Quantity 3',
      '$5.00 each',
      '$15.00',
      'ada@example.com',
      '4242 4242 4242 4242',
      'Bank debit',
      'settles later',
      'href="http://127.0.0.1:3000/pricing"',
    ]) {
      expect(page).toContain(text);
    }
    const policy = String(response.headers.get('content-security-policy'));
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(page).not.toMatch(/(src|href)="(https?:)?\/\/(?!127\.0\.0\.1)/);
  });

  it('shows foreign text as text', async () => {
    const sandbox = await testSandbox();
    await openSession(sandbox);
    await sandbox.stripe.products.create({ id: 'prod_evil', name: '<script>alert("1")</script>' });
    const { url } = await open(sandbox, {
      line_items: [
        { quantity: 1, price_data: { currency: 'usd', unit_amount: 500, product: 'prod_evil' } },
      ],
      cancel_url: 'http://127.0.0.1/"onmouseover="x',
    });
    const page = await (await fetch(url)).text();
    expect(page).not.toContain('<script>alert');
    expect(page).toContain('&#60;script&#62;');
    expect(page).not.toContain('"onmouseover="');
  });

  it('takes the card and leads back to the shop with the session id', async () => {
    const sandbox = await testSandbox();
    const { id, url } = await open(sandbox);
    expect(await press(url, CARD)).toMatchObject({
      status: 303,
      location: `http://127.0.0.1:3000/ok?session_id=${id}`,
    });
    expect(await sandbox.stripe.checkout.sessions.retrieve(id)).toMatchObject({
      payment_status: 'paid',
      customer_details: { email: 'ada@example.com', name: 'Ada', address: { country: 'GB' } },
    });
    expect(await press(url, CARD)).toMatchObject({ status: 303 });
    expect((await sandbox.stripe.charges.list()).data).toHaveLength(1);
    expect(await (await fetch(url)).text()).toContain('This order is complete');
  });

  it('says why a card was declined and lets one try again', async () => {
    const sandbox = await testSandbox();
    const { url } = await open(sandbox);
    const declined = await press(url, { ...CARD, card_number: '4000000000000002' });
    expect(declined.status).toBe(402);
    expect(declined.page).toContain('Your card was declined.');
    expect(declined.page).toContain('value="4000000000000002"');
    expect(await press(url, { ...CARD, card_number: '4000000000009995' })).toMatchObject({
      status: 402,
      page: expect.stringContaining('insufficient funds'),
    });
    expect(await press(url, { ...CARD, card_number: '4111111111111111' })).toMatchObject({
      status: 402,
      page: expect.stringContaining('non test card'),
    });
    expect(await press(url, CARD)).toMatchObject({ status: 303 });
    expect((await sandbox.stripe.paymentIntents.list()).data).toHaveLength(1);
  });

  it.each([
    ['no e-mail', { email: '' }, 'Enter an e-mail address'],
    ['a wrong card number', { card_number: '4242 4242 4242 4241' }, 'Your card number is invalid.'],
    ['a strange expiry', { expiry: '13/34' }, 'Enter the expiry'],
    ['a past expiry', { expiry: '01/20' }, 'Your card has expired'],
    ['no code', { cvc: '' }, '3 or 4 digits'],
    ['no name', { name: ' ' }, 'name of the account holder'],
    [
      'an unknown bank account',
      { method: 'us_bank_account', bank_account: '1' },
      'one of the test accounts',
    ],
  ])('charges nothing for %s and marks the field', async (_name, change, message) => {
    const sandbox = await testSandbox();
    const { url } = await open(sandbox);
    const answer = await press(url, { ...CARD, ...change });
    expect(answer.status).toBe(400);
    expect(answer.page).toContain(message);
    expect(answer.page).toContain('role="alert"');
    expect((await sandbox.stripe.paymentIntents.list()).data).toEqual([]);
  });

  it('takes a bank debit that settles later, told by webhook', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url });
    const { id, url } = await open(sandbox);
    expect(
      await press(url, { ...CARD, method: 'us_bank_account', bank_account: '000123456789' }),
    ).toMatchObject({ status: 303 });
    expect(await (await fetch(url)).text()).toContain('Your bank debit is on its way');
    await sandbox.settle(id);
    await eventually(() =>
      expect(hook.types()).toContain('checkout.session.async_payment_succeeded'),
    );
  });

  it('changes quantities where allowed, without paying', async () => {
    const sandbox = await testSandbox();
    const { id, url } = await open(sandbox, {
      line_items: [
        {
          price: 'price_pack_50',
          quantity: 1,
          adjustable_quantity: { enabled: true, minimum: 1, maximum: 4 },
        },
      ],
    });
    const { data } = await sandbox.stripe.checkout.sessions.listLineItems(id);
    const field = `quantity[${data[0]?.id}]`;
    const updated = await press(url, { ...CARD, action: 'update', [field]: '4' });
    expect(updated).toMatchObject({ status: 200, page: expect.stringContaining('Pay $20.00') });
    expect(await press(url, { ...CARD, [field]: '5' })).toMatchObject({
      status: 400,
      page: expect.stringContaining('cannot be 5'),
    });
    expect(await press(url, { ...CARD, [field]: '4' })).toMatchObject({ status: 303 });
    expect((await sandbox.stripe.checkout.sessions.retrieve(id)).amount_total).toBe(2_000);
  });

  it('asks for no card when nothing is to be paid', async () => {
    const sandbox = await testSandbox();
    const { id, url } = await open(sandbox, { line_items: [{ price: 'price_free', quantity: 1 }] });
    const page = await (await fetch(url)).text();
    expect(page).toContain('Complete order');
    expect(page).not.toContain('card_number"');
    expect(await press(url, { action: 'pay', email: 'ada@example.com' })).toMatchObject({
      status: 303,
    });
    expect((await sandbox.stripe.checkout.sessions.retrieve(id)).payment_status).toBe(
      'no_payment_required',
    );
  });

  it('is honest about sessions that cannot be paid', async () => {
    const sandbox = await testSandbox();
    const expired = await open(sandbox);
    await sandbox.stripe.checkout.sessions.expire(expired.id);
    const gone = await fetch(expired.url);
    expect([gone.status, await gone.text()]).toEqual([410, expect.stringContaining('has expired')]);
    expect((await press(expired.url, CARD)).status).toBe(410);
    const unknown = await fetch(`${sandbox.origin}/c/pay/cs_test_none`);
    expect([unknown.status, await unknown.text()]).toEqual([
      404,
      expect.stringContaining('no such Checkout Session'),
    ]);
  });

  it('sells a plan, and starts a trial with a card for later', async () => {
    const sandbox = await testSandbox();
    const plan = await open(sandbox, {
      mode: 'subscription',
      line_items: [{ price: 'price_plan', quantity: 1 }],
      allow_promotion_codes: true,
    });
    const shown = await (await fetch(plan.url)).text();
    for (const text of ['Subscribe', 'each every month', 'Promotion code', 'Card number']) {
      expect(shown).toContain(text);
    }
    expect((await press(plan.url, CARD)).status).toBe(303);
    expect(await sandbox.stripe.checkout.sessions.retrieve(plan.id)).toMatchObject({
      status: 'complete',
      payment_status: 'paid',
      subscription: expect.stringMatching(/^sub_/),
    });
    const trial = await open(sandbox, {
      mode: 'subscription',
      line_items: [{ price: 'price_plan', quantity: 1 }],
      subscription_data: { trial_period_days: 7 },
    });
    const page = await (await fetch(trial.url)).text();
    for (const text of ['Start trial', '$0.00', 'Card number']) expect(page).toContain(text);
    expect((await press(trial.url, CARD)).status).toBe(303);
  });
});

describe('the billing portal page', () => {
  it('shows the payments of its customer and the way back', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const customer = await stripe.customers.create({ email: 'ada@example.com' });
    const session = await openSession(sandbox, { customer: customer.id });
    await sandbox.pay(session.id);
    const portal = await stripe.billingPortal.sessions.create({
      customer: customer.id,
      return_url: 'http://127.0.0.1:3000/account',
    });
    const page = await (await fetch(portal.url)).text();
    for (const text of ['ada@example.com', '$5.00', 'succeeded', 'http://127.0.0.1:3000/account'])
      expect(page).toContain(text);
    await expect(stripe.billingPortal.sessions.create({ customer: 'cus_x' })).rejects.toMatchObject(
      { param: 'customer' },
    );
    expect((await fetch(`${sandbox.origin}/p/session/bps_x`)).status).toBe(404);
    expect((await fetch(`${sandbox.origin}/`)).status).toBe(200);
    expect((await fetch(`${sandbox.origin}/nothing`)).status).toBe(404);
  });

  it('lets him plan the end of his plan, call it off, and change his card', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const { id: customer } = await stripe.customers.create({ email: 'ada@example.com' });
    await sandbox.seedCatalogue(catalogue);
    await sandbox.buy({ price: 'price_plan', customer });
    const [plan] = (await stripe.subscriptions.list({ customer })).data;
    const { url } = await stripe.billingPortal.sessions.create({ customer });
    const press = async (fields: Record<string, string>) => {
      const body = new URLSearchParams(fields);
      return (await fetch(url, { method: 'POST', body, redirect: 'manual' })).status;
    };
    const now = () => stripe.subscriptions.retrieve(String(plan?.id));
    expect(await (await fetch(url)).text()).toContain('Cancel at the end of the period');
    expect(await press({ action: 'cancel', subscription: String(plan?.id) })).toBe(303);
    expect(await now()).toMatchObject({ status: 'active', cancel_at_period_end: true });
    expect(await (await fetch(url)).text()).toContain('Keep the plan');
    expect(await press({ action: 'keep', subscription: String(plan?.id) })).toBe(303);
    expect(await now()).toMatchObject({ cancel_at: null, cancel_at_period_end: false });
    expect(await press({ action: 'cancel', subscription: 'sub_of_somebody_else' })).toBe(303);
    expect(await press({ action: 'card', card_number: '4000000000000002' })).toBe(400);
    expect(await press({ action: 'card', card_number: '5555 5555 5555 4444' })).toBe(303);
    expect(await (await fetch(url)).text()).toContain('Card ending in 4444');
    const method = String((await now()).default_payment_method);
    expect(await stripe.paymentMethods.retrieve(method)).toMatchObject({ card: { last4: '4444' } });
  });
});
