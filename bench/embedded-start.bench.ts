/**
 * G20: the two commands on a fresh machine. From an empty folder to the first answered consume of
 * a bought pack (cluster, migration, boot, sandbox, checkout, payment), against what nobody can
 * leave out: initdb and a start of the same Postgres programs, with the same options.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdirSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { chooseServerAccount } from '../src/supabase/embedded/account.ts';
import { type Binaries, findBinaries, restoreSymlinks } from '../src/supabase/embedded/binaries.ts';
import { createTempFolder } from '../tests/support/tempFolder.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const ROUNDS = 7;
const POLL_MS = 5;
const START_TIMEOUT_MS = 60_000;
const SERVICE_KEY = 'service-key-of-the-bench-0123456789';
const LISTENING = /^Purser is listening on (\S+)$/;

/** Processes whose CPU time counts, with their descendants: Purser's Postgres is one. */
let pids: number[] = [];
/** What ends a turn's processes, once it is over. */
let endings: (() => Promise<void>)[] = [];

const binaries = usable(findBinaries());

/** The programs need their libraries' links, which npm does not keep. */
function usable(found: Binaries): Binaries {
  restoreSymlinks(found.native);
  return found;
}

async function bareStart(): Promise<number> {
  const folder = createTempFolder('bench-bare');
  const account = chooseServerAccount(folder.dir, folder.dir);
  const home = join(folder.dir, 'home');
  mkdirSync(home);
  if (account) chownSync(home, account.uid, account.gid);
  const cluster = join(home, 'cluster');
  const options = {
    cwd: home,
    stdio: 'ignore' as const,
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' },
    ...(account ? { uid: account.uid, gid: account.gid } : {}),
  };
  const program = (name: string) => join(binaries.native, 'bin', name);
  const initdb = spawn(
    program('initdb'),
    ['-D', cluster, '-U', 'postgres', '--encoding=UTF8', '--auth=trust'].concat([
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--locale=C',
    ]),
    options,
  );
  if ((await exitOf(initdb)) !== 0) throw new Error('initdb failed');
  const port = await freePort();
  const server = spawn(
    program('postgres'),
    ['-D', cluster, '-p', String(port), '-c', 'unix_socket_directories='],
    options,
  );
  if (server.pid !== undefined) pids.push(server.pid);
  endings.push(async () => {
    server.kill('SIGINT');
    await exitOf(server);
    folder.remove();
  });
  await firstQuery(`postgresql://postgres@127.0.0.1:${port}/postgres`);
  return 1;
}

async function firstQuery(connectionString: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const client = new pg.Client({ connectionString });
    try {
      await client.connect();
      await client.query('select 1');
      return;
    } catch (error) {
      // Refused or "starting up": it is not there yet.
      if (Date.now() > deadline) throw error;
      await sleep(POLL_MS);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

async function purserStart(): Promise<number> {
  const folder = createTempFolder('bench-purser');
  const server = spawn(process.execPath, ['--enable-source-maps', 'dist/index.js'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH ?? '',
      PORT: '0',
      PURSER_DATA_DIR: folder.dir,
      PURSER_SERVICE_KEY: SERVICE_KEY,
      LOG_LEVEL: 'warn',
    },
  });
  if (server.pid !== undefined) pids.push(server.pid);
  endings.push(async () => {
    server.kill('SIGTERM');
    await exitOf(server);
    folder.remove();
  });
  await buyAndConsume(await listening(server));
  return 1;
}

async function listening(server: ChildProcess): Promise<string> {
  if (server.stdout === null) throw new Error('The server has no stdout.');
  for await (const line of readline.createInterface({ input: server.stdout })) {
    const url = LISTENING.exec(line)?.[1];
    if (url !== undefined) return url;
  }
  throw new Error('The server ended before it listened.');
}

/** The quickstart: open a checkout, pay at the sandbox, see the credits, spend some. */
async function buyAndConsume(url: string): Promise<void> {
  const user = { 'x-user-id': 'first', 'x-user-email': 'first@example.com' };
  const service = { authorization: `Bearer ${SERVICE_KEY}` };
  const checkout = await post(`${url}/api/checkout-session`, user, { plan: 'pack_50' });
  const id = String(checkout.session_id);
  const sandbox = new URL(String(checkout.url)).origin;
  await post(`${sandbox}/_sandbox/checkout/sessions/${id}/pay`, {}, {});
  const settled = await post(`${url}/api/checkout-session/${id}/fulfill`, user, {});
  if (settled.balance !== 50) throw new Error(`Not credited: ${JSON.stringify(settled)}`);
  const spent = await post(
    `${url}/api/credits/consume`,
    { ...service, 'idempotency-key': 'first' },
    { user_id: 'first', amount: 5 },
  );
  if (spent.balance !== 45) throw new Error(`Not spent: ${JSON.stringify(spent)}`);
}

async function post(url: string, headers: Record<string, string>, body: unknown) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const result = await interleave({
  rounds: ROUNDS,
  cases: { 'initdb and start': bareStart, 'purser to first consume': purserStart },
  pids: () => pids,
  between: async () => {
    for (const end of endings) await end();
    endings = [];
    pids = [];
  },
});
const seconds = (name: keyof typeof result.cases) =>
  (1 / result.cases[name].rate.median).toFixed(2);
report({
  url: import.meta.url,
  claim: 'an empty folder answers its first consume within twice the time of initdb and start',
  operation: 'start',
  result,
  // Half the rate is twice the time.
  goals: [{ case: 'purser to first consume', measure: 'rate', atLeast: 0.5 }],
  notes: {
    postgres: binaries.major,
    'seconds to bare start': seconds('initdb and start'),
    'seconds to first consume': seconds('purser to first consume'),
  },
});
