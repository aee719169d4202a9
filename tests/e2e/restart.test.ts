/** Servers die, are stopped and come in pairs: no credit may be lost or doubled by it. */
import { afterEach, describe, expect, it } from '@jest/globals';
import { startBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';
import {
  createDataDir,
  expectNothingLeft,
  type ServerOptions,
  type ServerProcess,
  startServerProcess,
} from '../support/serverProcess.ts';
import { waitFor } from '../support/stack.ts';
import { buyPack, readAccount, readNewBalance } from './support/buyer.ts';
import { createReadableProject, NOBODY } from './support/readableProject.ts';
import { buyByWebhook, readBalance, readDeliveries, readEntries } from './support/shop.ts';

const TEST_MS_MAX = 120_000;

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
}, TEST_MS_MAX);

function newDataDir(account?: ServerOptions['account']): string {
  const { dataDir, remove } = createDataDir(account);
  cleanUps.push(remove);
  return dataDir;
}

async function start(options: ServerOptions): Promise<ServerProcess> {
  const server = await startServerProcess(options);
  cleanUps.push(server.stop);
  return server;
}

describe('a server that is stopped', () => {
  it(
    'leaves nothing running, and the next start has all its credits',
    async () => {
      const dataDir = newDataDir();
      const first = await start({ dataDir });
      expect(first.parts.database).toMatch(/^embedded Postgres, started, /);
      await buyByWebhook(first, 'ann', 50);
      await first.stop();
      expectNothingLeft(dataDir);

      const second = await start({ dataDir });
      expect(second.parts.database).toMatch(/^embedded Postgres, started, /);
      expect(second.serviceKey).toBe(first.serviceKey);
      expect(await readBalance(second, 'ann')).toMatchObject({ balance: 50 });
      expect(await readEntries(second, 'ann')).toHaveLength(1);
      await second.stop();
    },
    TEST_MS_MAX,
  );
});

describe('two servers on one data directory', () => {
  it(
    'share database and sandbox, and one goes on selling when the other is stopped',
    async () => {
      const dataDir = newDataDir();
      const first = await start({ dataDir });
      const second = await start({ dataDir });
      expect(second.parts.database).toMatch(/^embedded Postgres, joined, /);
      expect(second.parts.stripe).toBe(`${first.parts.stripe}, joined`);
      expect(second.postgresPid).toBe(first.postgresPid);

      await buyByWebhook(first, 'ann', 50);
      for (const server of [first, second]) {
        expect(await readBalance(server, 'ann')).toMatchObject({ balance: 50 });
      }

      await first.stop();
      await buyByWebhook(second, 'ann', 100);
      const amounts = (await readEntries(second, 'ann')).map(({ amount }) => amount);
      expect(amounts).toEqual([50, 50]);
      await waitFor(async () => {
        const deliveries = await readDeliveries(second.sandboxUrl, 'checkout.session.completed');
        return deliveries.length === 2 && deliveries.every((one) => one.status === 'succeeded');
      }, 'both webhooks to be delivered');
      await second.stop();
      expectNothingLeft(dataDir);
    },
    TEST_MS_MAX,
  );
});

describeWith('chromium', 'a server killed with kill -9', (chromium) => {
  async function sellsBeforeAndAfter(options: ServerOptions): Promise<void> {
    const browser = await startBrowser(chromium);
    cleanUps.push(browser.close);
    const first = await start(options);
    await buyPack(await browser.openPage(), first.url);
    // An open page would rightly complain about the server that vanishes under it.
    await browser.closePages();
    expect(browser.takeProblems()).toEqual([]);
    await first.kill9();

    const second = await start(options);
    expect(second.parts.database).toMatch(/^embedded Postgres, adopted, /);
    expect(await readBalance(second, 'demo-user')).toMatchObject({ balance: 50 });
    const page = await browser.openPage();
    expect((await readAccount(page, second.url)).rows).toHaveLength(1);
    await buyPack(page, second.url);
    expect(await readNewBalance(page)).toBe('100');
    expect(await readEntries(second, 'demo-user')).toHaveLength(2);
    expect(browser.takeProblems()).toEqual([]);
    await second.stop();
    expectNothingLeft(options.dataDir);
  }

  it(
    'is replaced by the next start, which adopts the database and goes on selling',
    () => sellsBeforeAndAfter({ dataDir: newDataDir() }),
    TEST_MS_MAX,
  );

  describeWith('root', 'run by an account without rights', () => {
    it(
      'is replaced by the next start just the same',
      async () => {
        const project = await createReadableProject();
        cleanUps.push(project.remove);
        const dataDir = newDataDir(NOBODY);
        await sellsBeforeAndAfter({ dataDir, account: NOBODY, project: project.dir });
      },
      TEST_MS_MAX,
    );
  });
});
