import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { AxeResults } from 'axe-core';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';
import { paidCharge } from './support/money.ts';
import { eventually, receiver, type TestSandbox, testSandbox } from './support/sandbox.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Sends a form as the page does, and reads the page it leads to. */
async function send(
  { origin }: TestSandbox,
  action: string,
  fields: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<{ location: string; text: string }> {
  const answer = await fetch(`${origin}/dashboard/${action}`, {
    method: 'POST',
    body: new URLSearchParams(fields),
    redirect: 'manual',
    headers,
  });
  expect(answer.status).toBe(303);
  const location = answer.headers.get('location') ?? '';
  const page = await fetch(new URL(location, origin));
  return { location, text: await page.text() };
}

describe('the page at the root', () => {
  it('says what to do when there is nothing yet', async () => {
    const { origin } = await testSandbox();
    const answer = await fetch(`${origin}/`);
    const text = await answer.text();
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      'text/html; charset=utf-8',
    ]);
    for (const hint of [
      'There is nothing to sell yet',
      'Nothing has been paid yet',
      'No subscriptions',
      'No endpoint yet',
      'time moves. What an application does by its own clock keeps real time',
    ]) {
      expect(text).toContain(hint);
    }
  });

  it('does what the control API does, and says what came of it', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const { stripe } = sandbox;
    const { charge } = await paidCharge(sandbox);
    const refunded = await send(sandbox, 'refund', {
      id: charge.id,
      amount: '2.50',
      currency: 'usd',
    });
    expect(refunded.text).toMatch(/Refund re_\w+ is succeeded\./);
    expect((await stripe.charges.retrieve(charge.id)).amount_refunded).toBe(250);
    await send(sandbox, 'dispute', { id: charge.id, kind: 'dispute' });
    const [dispute] = (await stripe.disputes.list()).data;
    expect((await send(sandbox, 'decide', { id: dispute?.id ?? '', status: 'won' })).text).toMatch(
      /Dispute du_\w+: won\./,
    );
    await send(sandbox, 'break', { kind: 'drop', types: 'product.created', times: '2' });
    await send(sandbox, 'break_api', { kind: 'rate', path: '/v1/customers' });
    expect(await sandbox.status()).toMatchObject({
      faults: [{ drop: true, types: ['product.created'], times: 2 }],
      api_faults: [{ status: 429, path: '/v1/customers' }],
    });
    expect((await send(sandbox, 'mend')).text).toContain('All is well again');
    expect(await sandbox.status()).toMatchObject({ faults: [], api_faults: [] });
    const { text } = await send(sandbox, 'advance', { days: '2' });
    expect(text).toMatch(/The clock is at [\d-]+ [\d:]+ UTC: \d+ things? happened/);
    expect((await send(sandbox, 'endpoint', { url: 'http://127.0.0.1:9/x' })).text).toContain(
      'whsec_',
    );
  });

  it('leads to the checkout page when it is paid by hand', async () => {
    const sandbox = await testSandbox();
    await send(sandbox, 'sample');
    const { location, text } = await send(sandbox, 'buy', {
      price: 'price_sample_pack',
      quantity: '3',
      how: 'by_hand',
    });
    expect(location).toContain(`${sandbox.origin}/c/pay/cs_test_`);
    expect(text).toContain('$15.00');
  });

  it('shows a mistake and changes nothing', async () => {
    const sandbox = await testSandbox();
    const mistakes: [string, Record<string, string>, string][] = [
      ['refund', { id: 'last' }, 'Nothing has been paid in this sandbox yet'],
      ['refund', { id: 'ch_x', amount: 'five', currency: 'usd' }, 'amount must be a number'],
      ['buy', { price: 'price_x', quantity: '1' }, 'No such price'],
      ['advance', { to: '2001-01-01' }, 'goes forward only'],
      ['advance', { to: 'someday' }, 'is not a day'],
      ['break', { kind: 'nothing', times: '3' }, 'Choose what is to break'],
      ['endpoint', { url: '<script>' }, 'url'],
      ['explode', {}, 'no action called explode'],
      ['__proto__', {}, 'no action called __proto__'],
    ];
    for (const [action, fields, message] of mistakes) {
      const { location, text } = await send(sandbox, action, fields);
      expect([action, new URLSearchParams(location.split('?')[1]).get('wrong')]).toEqual([
        action,
        expect.stringContaining(message),
      ]);
      expect(text).not.toContain('<script>x');
    }
    const shown = await (await fetch(`${sandbox.origin}/?said=%3Cscript%3Ex`)).text();
    expect(shown).not.toContain('<script>x');
  });

  it('does nothing for a form of another site', async () => {
    const sandbox = await testSandbox();
    for (const headers of [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { origin: 'http://evil.example' },
    ]) {
      const { text } = await send(sandbox, 'break', { kind: 'drop' }, headers as never);
      expect(text).toContain('This form came from another site');
    }
    expect(await sandbox.status()).toMatchObject({ faults: [] });
  });
});

describeWith('chromium', 'the page at the root, in a browser', (chromium) => {
  let browser: TestBrowser;
  beforeAll(async () => {
    browser = await startBrowser(chromium);
  });
  afterAll(() => browser?.close());

  it('lives a customer: buys a plan, renews it, is refunded, and every webhook is seen', async () => {
    const sandbox = await testSandbox({ delaySettleMs: 3_600_000 });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url });
    const page = await browser.openPage();
    await page.goto(sandbox.origin);
    await page.getByRole('button', { name: 'Make two sample prices' }).click();
    await page.getByLabel('What').selectOption('price_sample_plan');
    await page.getByLabel('E-mail of a new buyer').fill('ada@example.com');
    await page.getByRole('button', { name: 'Buy' }).click();
    await page.getByRole('alert').filter({ hasText: 'is paid' }).waitFor();
    await page.getByRole('button', { name: '+31 days' }).click();
    await page.getByRole('alert').filter({ hasText: 'The clock is at' }).waitFor();
    const invoices = page.getByRole('region', { name: 'Invoices' });
    expect(await invoices.getByText('paid', { exact: true }).count()).toBe(2);
    await page.getByRole('button', { name: 'Renew now' }).click();
    await page.getByRole('alert').filter({ hasText: 'Renewed' }).waitFor();
    expect(await invoices.getByText('paid', { exact: true }).count()).toBe(3);
    await page.getByRole('button', { name: 'Refund' }).first().click();
    await page.getByRole('alert').filter({ hasText: 'is succeeded' }).waitFor();
    await eventually(() => expect(hook.types()).toContain('charge.refunded'));
    await page.getByRole('link', { name: 'Refresh' }).click();
    const deliveries = page.getByRole('region', { name: 'Deliveries' });
    await deliveries.getByText('charge.refunded').waitFor();
    // With rows in every table that this story fills.
    await page.evaluate(AXE);
    const { violations } = (await page.evaluate('axe.run()')) as AxeResults;
    expect(violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target)])).toEqual([]);
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
    expect(browser.takeProblems()).toEqual([]);
  });
});
