/** Chromium for tests: one process per test file, one private context per person. */
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

/** Nothing the browser does of itself may reach the network or another run's profile. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Long, for a loaded machine: it only decides how long a broken page keeps a test waiting. */
const WAIT_MS_MAX = 60_000;

export interface TestBrowser {
  /** A page in a context of its own: no cookie and no storage shared with anyone. */
  openPage(options?: BrowserContextOptions): Promise<Page>;
  /** What all pages complained about since the last call: errors of scripts and of the console. */
  takeProblems(): string[];
  /** Closes every page that is open. */
  closePages(): Promise<void>;
  close(): Promise<void>;
}

export async function startBrowser(executablePath: string): Promise<TestBrowser> {
  // Playwright makes a profile folder for each launch and deletes it at the end.
  const browser: Browser = await chromium.launch({ executablePath, args: FLAGS });
  const problems: string[] = [];
  return {
    async openPage(options = {}) {
      const context = await browser.newContext({
        locale: 'en-US',
        timezoneId: 'UTC',
        viewport: { width: 1280, height: 900 },
        ...options,
      });
      const page = await context.newPage();
      page.setDefaultTimeout(WAIT_MS_MAX);
      page.on('pageerror', (error) => problems.push(String(error)));
      page.on('console', (message) => {
        if (message.type() === 'error') problems.push(message.text());
      });
      return page;
    },
    takeProblems: () => problems.splice(0),
    async closePages() {
      for (const context of browser.contexts()) await context.close();
    },
    close: () => browser.close(),
  };
}
