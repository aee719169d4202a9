/** Every page, light and dark, desk and phone: accessible, whole, without errors, under its policy. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import type { AxeResults } from 'axe-core';
import type { Page } from 'playwright-core';
import { startBrowser, type TestBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';
import { createDataDir, type ServerProcess, startServerProcess } from '../support/serverProcess.ts';
import { asService, buyByWebhook, createSession, paySession } from './support/shop.ts';

const TEST_MS_MAX = 120_000;
/** Whom the pages act as in a browser that has not chosen. */
const USER = 'demo-user';

/** A folder that keeps a picture of every page; they are for eyes, not for comparison. */
const PICTURES = process.env.PURSER_TEST_PICTURES;

// Evaluated and not added as an element, so that the policy of the pages stays as it is.
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const LOOKS = [
  { colorScheme: 'light', width: 1280, height: 900 },
  { colorScheme: 'light', width: 375, height: 812 },
  { colorScheme: 'dark', width: 1280, height: 900 },
  { colorScheme: 'dark', width: 375, height: 812 },
] as const;

interface Site {
  server: ServerProcess;
  /** A session that was paid and credited. */
  paid: string;
  /** The payment page of one that was not. */
  payUrl: string;
}

interface PageCase {
  name: string;
  address(site: Site): string;
  /** Resolves when all of the page is there. */
  ready(page: Page): Promise<unknown>;
  /** What Chromium itself reports for this page's status. */
  reported?: RegExp;
}

const PAGES: PageCase[] = [
  {
    name: 'pricing',
    address: ({ server }) => `${server.url}/pricing`,
    ready: (page) => page.getByText(/^You have .* credits to spend\./).waitFor(),
  },
  {
    name: 'success',
    address: ({ server, paid }) => `${server.url}/success?session_id=${paid}`,
    ready: (page) => page.getByRole('heading', { name: '+50 credits' }).waitFor(),
  },
  {
    name: 'account',
    address: ({ server }) => `${server.url}/account`,
    ready: (page) => page.getByText('All 6 entries').waitFor(),
  },
  {
    name: 'claim',
    address: ({ server }) => `${server.url}/claim#purchase=${'a'.repeat(43)}`,
    ready: (page) => page.getByRole('heading', { name: 'Your purchase is waiting' }).waitFor(),
  },
  {
    name: 'not-found',
    address: ({ server }) => `${server.url}/no-such-page`,
    ready: (page) => page.getByRole('heading', { level: 1 }).waitFor(),
    reported: /status of 404/,
  },
  {
    name: 'payment',
    address: ({ payUrl }) => payUrl,
    ready: (page) => page.getByRole('button', { name: 'Pay $5.00' }).waitFor(),
  },
  {
    name: 'api-docs',
    address: ({ server }) => `${server.url}/api/docs`,
    ready: (page) => page.getByRole('heading', { name: 'Purser API', level: 1 }).waitFor(),
  },
];

/** Pages whose policies differ: the app, a page of the server, and the sandbox. */
const POLICIES = ['account', 'not-found', 'payment'];
/** Where the page is longer than a picture should be. */
const LONG_PAGES = ['api-docs'];

/** A script written into the page, as an injected text would be; answers what stopped it. */
const INJECT = `new Promise((resolve) => {
  document.addEventListener('securitypolicyviolation', (event) =>
    resolve(event.effectiveDirective + ', ' + (document.title === 'taken over' ? 'ran' : 'did not run')));
  const script = document.createElement('script');
  script.textContent = 'document.title = "taken over"';
  document.body.append(script);
})`;

/** Resolves when a change of the look has arrived: buttons fade from one colour to the other. */
const AT_REST = `new Promise(requestAnimationFrame)
  .then(() => Promise.allSettled(document.getAnimations().map(({ finished }) => finished)))
  .then(() => undefined)`;

const OVERFLOW = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';

describeWith('chromium', 'the pages', (chromium) => {
  let browser: TestBrowser;
  let site: Site;
  const { dataDir, remove } = createDataDir();

  beforeAll(async () => {
    const [started, server] = await Promise.all([
      startBrowser(chromium),
      startServerProcess({ dataDir }),
    ]);
    browser = started;
    const { session_id: paid } = await createSession(server, USER);
    await paySession(server.sandboxUrl, paid);
    await buyByWebhook(server, USER, 100);
    await spend(server, [
      [12, 'Product photo, 4 variants'],
      [5, 'Upscale to 4K'],
      [1, 'Caption'],
      [20, null],
    ]);
    const { url: payUrl } = await createSession(server, USER);
    site = { server, paid, payUrl };
  }, TEST_MS_MAX);
  afterEach(() => browser?.closePages());
  afterAll(async () => {
    await browser?.close();
    await site?.server.stop();
    await remove();
  }, TEST_MS_MAX);

  it.each(PAGES)(
    '$name breaks no rule of accessibility, is cut off nowhere and logs no error',
    async ({ name, address, ready, reported }) => {
      const page = await browser.openPage({ reducedMotion: 'reduce' });
      await page.goto(address(site));
      await ready(page);
      await page.evaluate(AXE);
      const found: string[] = [];
      for (const { colorScheme, width, height } of LOOKS) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height });
        await page.evaluate(AT_REST);
        const look = `${name}-${colorScheme}-${width}`;
        if (PICTURES) {
          const fullPage = !LONG_PAGES.includes(name);
          await page.screenshot({ path: path.join(PICTURES, `${look}.png`), fullPage });
        }
        const overflow = await page.evaluate(OVERFLOW);
        if (overflow !== 0) found.push(`${look}: ${overflow} px too wide`);
        for (const violation of await findViolations(page)) found.push(`${look}: ${violation}`);
      }
      expect(found).toEqual([]);
      expect(browser.takeProblems()).toEqual(reported ? [expect.stringMatching(reported)] : []);
    },
    TEST_MS_MAX,
  );

  it.each(PAGES.filter(({ name }) => POLICIES.includes(name)))(
    '$name runs no script written into it and is shown in no frame',
    async ({ address, ready }) => {
      const page = await browser.openPage();
      await page.goto(address(site));
      await ready(page);
      expect(await page.evaluate(INJECT)).toBe('script-src-elem, did not run');

      const other = await browser.openPage();
      const refused = other.waitForEvent('console', (message) =>
        /frame-ancestors/.test(message.text()),
      );
      await other.setContent(`<iframe src="${address(site)}"></iframe>`);
      expect((await refused).type()).toBe('error');
      browser.takeProblems();
    },
    TEST_MS_MAX,
  );
});

async function spend(server: ServerProcess, uses: [amount: number, what: string | null][]) {
  for (const [at, [amount, description]] of uses.entries()) {
    const { status, body } = await asService(server, 'POST', '/api/credits/consume', {
      body: { user_id: USER, amount, ...(description === null ? {} : { description }) },
      headers: { 'idempotency-key': `use-${at}` },
    });
    if (status !== 200) throw new Error(JSON.stringify(body));
  }
}

/** Rules broken on a page that has axe, each with the elements that break it. */
async function findViolations(page: Page): Promise<string[]> {
  const { violations } = await page.evaluate<AxeResults>(
    "axe.run({ resultTypes: ['violations'] })",
  );
  return violations.map(({ id, nodes }) => `${id} (${nodes.map(({ target }) => target)})`);
}
