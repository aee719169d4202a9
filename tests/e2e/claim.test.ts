/** A buyer nobody knows takes over his purchase by the link that support has made. */
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';
import { createDataDir, type ServerProcess, startServerProcess } from '../support/serverProcess.ts';
import { waitFor } from '../support/stack.ts';
import { actAs, openPricing, readAccount } from './support/buyer.ts';
import { control, queryLedger, readEntries } from './support/shop.ts';

const TEST_MS_MAX = 120_000;

describeWith('chromium', 'claiming a purchase', (chromium) => {
  let browser: TestBrowser;
  let server: ServerProcess;
  const { dataDir, remove } = createDataDir();

  beforeAll(async () => {
    [browser, server] = await Promise.all([
      startBrowser(chromium),
      startServerProcess({ dataDir }),
    ]);
  }, TEST_MS_MAX);
  afterEach(() => browser?.closePages());
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await remove();
  }, TEST_MS_MAX);

  /** A purchase without a word of whose it is, and the link to it. */
  async function makeLink(): Promise<string> {
    const { body } = await control(server.sandboxUrl, 'POST', '/buy', { price: 'price_pack_50' });
    const parked = await waitFor(async () => {
      const [row] = await queryLedger(
        server,
        `select stripe_event_id as id from stripe_webhook_events
         where status = 'parked' and object_id = $1`,
        [body.session.id],
      );
      return row ?? null;
    }, 'the parked event');
    const made = await server.call('POST', `/api/admin/stripe/parked/${parked.id}/claim-link`, {
      bearer: server.adminKey,
    });
    expect(made.status).toBe(201);
    return made.body.url;
  }

  it(
    'gives the credits to the account that is signed in, once, and leaves no token in the address',
    async () => {
      const link = await makeLink();
      const page = await browser.openPage();
      await openPricing(page, server.url);
      await actAs(page, 'finder');
      await page.goto(link);
      await page.getByRole('heading', { name: 'Your purchase is waiting' }).waitFor();
      expect(page.url()).toBe(`${server.url}/claim`);
      await page.getByText('finder', { exact: true }).last().waitFor();
      await page.getByRole('button', { name: 'Add the credits to this account' }).click();
      await page.getByRole('heading', { name: 'The credits are yours' }).waitFor();
      expect((await readAccount(page, server.url)).available).toBe('50');
      expect(await readEntries(server, 'finder')).toHaveLength(1);

      const second = await browser.openPage();
      await openPricing(second, server.url);
      await actAs(second, 'late');
      await second.goto(link);
      await second.getByRole('button', { name: 'Add the credits to this account' }).click();
      await second.getByRole('heading', { name: 'This link does not work any more' }).waitFor();
      expect(await readEntries(server, 'late')).toEqual([]);
    },
    TEST_MS_MAX,
  );

  it(
    'says so when the link lost its end',
    async () => {
      const page = await browser.openPage();
      await page.goto(`${server.url}/claim`);
      await page.getByRole('heading', { name: 'This link is not complete' }).waitFor();
    },
    TEST_MS_MAX,
  );
});
