/** The main job as users meet it: the server from `npm start`, a person in Chromium, an app. */
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { joinOrStartSandbox, type Sandbox } from '../../src/sandbox/index.ts';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';
import { createDataDir, type ServerProcess, startServerProcess } from '../support/serverProcess.ts';
import { waitFor } from '../support/stack.ts';
import {
  actAs,
  GOOD_CARD,
  openPricing,
  payByCard,
  readAccount,
  readNewBalance,
  readOpenAccount,
  startCheckout,
  waitForCredits,
  waitForPaymentPage,
} from './support/buyer.ts';
import {
  asService,
  buyByWebhook,
  queryLedger,
  readBalance,
  readDeliveries,
  readEntries,
} from './support/shop.ts';

const TEST_MS_MAX = 120_000;
const DECLINED_CARD = '4000 0000 0000 0002';
/** Long enough that a bank debit never settles by itself while a test looks. */
const NEVER_MS = 3_600_000;

describeWith('chromium', 'buying credits', (chromium) => {
  let browser: TestBrowser;
  let server: ServerProcess;
  const { dataDir, remove } = createDataDir();

  beforeAll(async () => {
    [browser, server] = await Promise.all([
      startBrowser(chromium),
      startServerProcess({ dataDir }),
    ]);
  }, TEST_MS_MAX);
  afterEach(() => browser.closePages());
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await remove();
  }, TEST_MS_MAX);

  it(
    'sells 50 credits to a person, and the app sees them and spends one',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      const packs = await page.getByRole('article').allInnerTexts();
      expect(packs.map((text) => /^\$\S+$/m.exec(text)?.[0])).toEqual([
        '$5.00',
        '$18.00',
        '$40.00',
      ]);

      const sessionId = await startCheckout(page);
      expect(new URL(page.url()).origin).toBe(server.sandboxUrl);
      await page.getByText('demo@example.com').waitFor();
      await payByCard(page);
      await waitForCredits(page, 50);
      expect(await readNewBalance(page)).toBe('50');

      await page.getByRole('link', { name: 'See your account' }).click();
      expect(await readOpenAccount(page)).toEqual({
        available: '50',
        rows: [[expect.stringMatching(/^Purchase/), '+50', '50']],
      });

      // The page has settled the purchase and the webhook comes too: together one entry.
      await waitFor(async () => {
        const deliveries = await readDeliveries(server.sandboxUrl, 'checkout.session.completed');
        return deliveries.length === 1 && deliveries[0]?.status === 'succeeded';
      }, 'the webhook to be delivered');
      expect(await readEntries(server, 'demo-user')).toEqual([
        expect.objectContaining({
          transaction_type: 'purchase',
          amount: 50,
          stripe_session_id: sessionId,
        }),
      ]);

      const [ledger] = await queryLedger(
        server,
        'select credits_balance, credits_version from users where id = $1',
        ['demo-user'],
      );
      const check = await asService(server, 'POST', '/api/credits/check', {
        body: { user_id: 'demo-user', amount: 50 },
      });
      expect(check.body).toMatchObject({
        allowed: true,
        source: 'redis',
        balance: Number(ledger?.credits_balance),
        version: Number(ledger?.credits_version),
      });
      expect(check.body.balance).toBe(50);

      const consume = () =>
        asService(server, 'POST', '/api/credits/consume', {
          body: { user_id: 'demo-user', amount: 1, description: 'One picture' },
          headers: { 'idempotency-key': 'picture-1' },
        });
      const first = await consume();
      const replay = await consume();
      expect(first.body).toMatchObject({ outcome: 'applied', balance: 49 });
      expect(first.headers.get('idempotency-replayed')).toBeNull();
      expect(replay.body).toEqual(first.body);
      expect(replay.headers.get('idempotency-replayed')).toBe('true');

      await page.reload();
      expect(await readOpenAccount(page)).toEqual({
        available: '49',
        rows: [
          [expect.stringMatching(/^Usage\s+One picture/), '\u22121', '49'],
          [expect.stringMatching(/^Purchase/), '+50', '50'],
        ],
      });
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'lets the buyer try another card after a declined one, and credits once',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'dora');
      const sessionId = await startCheckout(page);
      await payByCard(page, DECLINED_CARD);
      await page.getByRole('alert').getByText('Your card was declined.').waitFor();
      // Chromium reports the answer to the declined form; nothing else may be wrong.
      expect(browser.takeProblems()).toEqual([expect.stringContaining('status of 402')]);
      expect(await readEntries(server, 'dora')).toEqual([]);

      await payByCard(page, GOOD_CARD);
      await waitForCredits(page, 50);
      expect(await readEntries(server, 'dora')).toEqual([
        expect.objectContaining({ amount: 50, stripe_session_id: sessionId }),
      ]);
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'brings who cancels back to the prices, without credits',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'carl');
      await startCheckout(page);
      await page.getByRole('link', { name: 'Back' }).click();
      await page.waitForURL(`${server.url}/pricing**`);
      await page.getByText('You have 0 credits to spend.').waitFor();
      expect((await readAccount(page, server.url)).rows).toEqual([]);
      expect(await readEntries(server, 'carl')).toEqual([]);
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'sells a quantity of packs in one purchase',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'quentin');
      await page.getByRole('button', { name: 'One more of 50 credits' }).click();
      await startCheckout(page, 'Buy 100 credits for $10.00');
      await page.getByText('Quantity 2').waitFor();
      await page.getByRole('button', { name: 'Pay $10.00' }).waitFor();
      await payByCard(page);
      await waitForCredits(page, 100);
      expect(await readNewBalance(page)).toBe('100');
      expect(await readEntries(server, 'quentin')).toEqual([
        expect.objectContaining({ transaction_type: 'purchase', amount: 100 }),
      ]);
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'opens one checkout for a double click',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'dennis');
      let requests = 0;
      page.on('request', (request) => {
        if (new URL(request.url()).pathname === '/api/checkout-session') requests += 1;
      });
      await page.getByRole('button', { name: 'Buy 50 credits for $5.00' }).dblclick();
      const sessionId = await waitForPaymentPage(page);
      expect(requests).toBe(1);
      const sessions = await queryLedger(
        server,
        'select session_id from checkout_sessions where user_id = $1',
        ['dennis'],
      );
      expect(sessions).toEqual([{ session_id: sessionId }]);
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'shows every local user his own balance and history only',
    async () => {
      await buyByWebhook(server, 'ann', 50);
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'ann');
      await page.getByText('You have 50 credits to spend.').waitFor();

      await page.getByRole('link', { name: 'Account' }).click();
      await actAs(page, 'bob');
      await page.getByText('No entries yet').waitFor();
      expect(await readOpenAccount(page)).toEqual({ available: '0', rows: [] });
      expect((await readBalance(server, 'bob')).balance).toBe(0);

      // A user seen before is one click away.
      await page.getByRole('button', { name: 'Acting as bob' }).click();
      await page.getByRole('button', { name: 'Act as ann' }).click();
      await page.getByText('All 1 entry').waitFor();
      expect((await readOpenAccount(page)).available).toBe('50');
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );
});

describeWith('chromium', 'a payment that takes days', (chromium) => {
  let browser: TestBrowser;
  let sandbox: Sandbox;
  let server: ServerProcess;
  const { dataDir, remove } = createDataDir();

  beforeAll(async () => {
    browser = await startBrowser(chromium);
    // The server joins this sandbox, whose banks wait for the test.
    sandbox = await joinOrStartSandbox({
      dataDir: path.join(dataDir, 'sandbox'),
      delaySettleMs: NEVER_MS,
    });
    server = await startServerProcess({ dataDir });
  }, TEST_MS_MAX);
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await sandbox?.stop();
    await remove();
  }, TEST_MS_MAX);

  it(
    'is waited for honestly, and credited when the bank settles it',
    async () => {
      expect(server.parts.stripe).toBe(`sandbox at ${sandbox.origin}, joined`);
      const page = await browser.openPage();
      await openPricing(page, server.url);
      const sessionId = await startCheckout(page);
      await page.getByRole('radio', { name: /Bank debit/ }).check();
      await page.clock.install();
      await page.getByRole('button', { name: 'Pay $5.00' }).click();

      await page.getByRole('heading', { name: 'Confirming your payment' }).waitFor();
      await page.getByText('50 credits will be added as soon as Stripe confirms.').waitFor();
      expect((await readBalance(server, 'demo-user')).balance).toBe(0);
      // Who waits longer is told why, and may leave.
      await page.clock.runFor(10_000);
      await page.getByText('You can close this page.').waitFor();
      await page.getByRole('link', { name: 'See your account' }).waitFor();

      await sandbox.settle(sessionId);
      await waitFor(
        async () => (await readBalance(server, 'demo-user')).balance === 50,
        'the settled payment to be credited by the webhook',
      );
      await page.clock.runFor(60_000);
      await waitForCredits(page, 50);
      expect(await readNewBalance(page)).toBe('50');
      expect(await readEntries(server, 'demo-user')).toEqual([
        expect.objectContaining({ amount: 50, stripe_session_id: sessionId }),
      ]);
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'that the bank refuses in the end says so, and adds nothing',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'frank');
      const sessionId = await startCheckout(page);
      await page.getByRole('radio', { name: /Bank debit/ }).check();
      await page.getByRole('button', { name: 'Pay $5.00' }).click();
      await page.getByText('50 credits will be added as soon as Stripe confirms.').waitFor();
      await sandbox.settle(sessionId, 'failed');
      await page.getByRole('heading', { name: 'The payment did not go through' }).waitFor();
      expect(await readEntries(server, 'frank')).toEqual([]);
      expect(browser.takeProblems()).toEqual([]);
    },
    TEST_MS_MAX,
  );
});
