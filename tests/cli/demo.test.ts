import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { createDataDir, type ServerProcess, startServerProcess } from '../support/serverProcess.ts';

/** The program as it is started, beside the server as it is started. */
const folder = createDataDir();
let server: ServerProcess;

beforeAll(async () => {
  server = await startServerProcess({ dataDir: folder.dataDir });
});
afterAll(async () => {
  await server?.stop();
  await folder.remove();
});

async function purser(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = {
    PATH: process.env.PATH ?? '',
    PURSER_URL: server.url,
    PURSER_DATA_DIR: folder.dataDir,
  };
  try {
    const run = await promisify(execFile)(process.execPath, ['dist/cli/purser.js', ...args], {
      env,
    });
    return { code: 0, ...run };
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string };
  }
}

it('plays buy, spend, refund, subscribe and renew against a local server, with its own keys', async () => {
  const { code, stdout, stderr } = await purser('demo', '--user', 'ada');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const balances = [...stdout.matchAll(/Balance: (\d+) credits/g)].map(([, balance]) =>
    Number(balance),
  );
  expect(balances).toEqual([50, 45, 20, 50, 80]);
  expect(stdout).toContain(`${server.url}/pricing`);
  expect(stdout.replace(/\s+/g, ' ')).toContain('the balance is 80 credits');
  expect(stdout).not.toContain('\u001b');
});

it('finds nothing wrong with a server that is started without settings', async () => {
  const { code, stdout } = await purser('doctor', '--json');
  const answer = JSON.parse(stdout);
  expect({ code, fail: answer.fail, warn: answer.warn }).toEqual({ code: 0, fail: 0, warn: 0 });
  // The database is joined, so its rules are looked at as well.
  expect(answer.rules.find((rule: { code: string }) => rule.code === 'migrations').status).toBe(
    'ok',
  );
});
