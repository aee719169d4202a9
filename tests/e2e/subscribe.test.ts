/** A person in Chromium subscribes to a plan, sees it on the account page, and is not sold a second. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';
import { createDataDir, type ServerProcess, startServerProcess } from '../support/serverProcess.ts';
import { waitFor } from '../support/stack.ts';
import {
  GOOD_CARD,
  openPricing,
  readAccount,
  waitForCredits,
  waitForPaymentPage,
} from './support/buyer.ts';
import { queryLedger } from './support/shop.ts';

const TEST_MS_MAX = 120_000;

describeWith('chromium', 'subscribing', (chromium) => {
  let browser: TestBrowser;
  let server: ServerProcess;
  const { dataDir, remove } = createDataDir();

  beforeAll(async () => {
    [browser, server] = await Promise.all([
      startBrowser(chromium),
      startServerProcess({ dataDir }),
    ]);
  }, TEST_MS_MAX);
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await remove();
  }, TEST_MS_MAX);

  it(
    'credits the plan once, shows it with its end, and leads to the portal from then on',
    async () => {
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await page.getByRole('button', { name: 'Subscribe to Individual' }).click();
      const sessionId = await waitForPaymentPage(page);
      await page.getByLabel('Card number').fill(GOOD_CARD);
      await page.getByRole('button', { name: /^(Pay|Subscribe)/ }).click();
      await waitForCredits(page, 30);

      expect(await readAccount(page, server.url)).toEqual({
        available: '30',
        rows: [[expect.stringContaining('Individual'), '+30', '30']],
      });
      await page.getByRole('heading', { name: 'Individual plan' }).waitFor();
      await page.getByText(/^Renews on /).waitFor();

      await openPricing(page, server.url);
      await page.getByRole('button', { name: 'Manage your plan' }).waitFor();
      await page.getByRole('button', { name: 'Change to this plan' }).first().click();
      await page.waitForURL((url) => url.origin === server.sandboxUrl);

      // The page has settled the purchase and the webhooks come too: together one entry.
      await waitFor(async () => {
        const [row] = await queryLedger(
          server,
          `select count(*)::int as n from stripe_webhook_events where status = 'processed' and event_type in
             ('checkout.session.completed', 'invoice.paid', 'customer.subscription.created')`,
          [],
        );
        return row?.n === 3;
      }, `the events of ${sessionId}`);
      expect(
        await queryLedger(
          server,
          'select transaction_type, amount::int from credit_transactions',
          [],
        ),
      ).toEqual([{ transaction_type: 'allocation', amount: 30 }]);
    },
    TEST_MS_MAX,
  );
});
