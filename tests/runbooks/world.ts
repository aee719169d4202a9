/** What a runbook is played in: the built server as a process, Postgres, Redis, the sandbox, a shell. */
import { execFile } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import Stripe from 'stripe';
import { loadCatalogue } from '../../src/catalogue/catalogue.ts';
import { sandboxCatalogue } from '../../src/compose/sandboxCatalogue.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import {
  ensureServerBuilt,
  type ServerProcess,
  startServerProcess,
} from '../support/crashServer.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import {
  ADMIN_KEY,
  type CallAnswer,
  type CallOptions,
  callServer,
  SERVICE_KEY,
  signToken,
  stackEnv,
  WEBHOOK_SECRET,
  waitFor,
} from '../support/stack.ts';
import { createTempFolder } from '../support/tempFolder.ts';
import type { Played } from './page.ts';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const COMMAND_MS_MAX = 180_000;

/** Longer than a lease of the inbox. */
const SETTLED_SECONDS_MAX = 120;

export interface World {
  url: string;
  database: TestDatabase;
  sandbox: Sandbox;
  /** The official SDK, pointed at the sandbox. */
  stripe: Stripe;
  /** What the server runs with. */
  env: Record<string, string>;
  server: ServerProcess;
  call(method: string, target: string, options?: CallOptions): Promise<CallAnswer>;
  /** An access token of this user. */
  token(user: string): Promise<string>;
  /** A user buys `pack_50` as a signed-in buyer does, and has paid when this resolves. */
  buy(user: string): Promise<string>;
  /** Does something whose events reach nobody. */
  untold<T>(work: () => Promise<T>): Promise<T>;
  /** Waits until every event has been delivered and worked on, or waits for its next attempt. */
  settled(): Promise<void>;
  /** Waits until the user has as many credits by the ledger. */
  waitForBalance(user: string, balance: number): Promise<void>;
  /** Stops the server as a deployment does and starts it with other settings, at the same address. */
  restart(change: Record<string, string>): Promise<void>;
  /** Runs commands of a page as its reader would, on a machine with the server's settings. */
  shell(text: string, env?: Record<string, string>): Promise<Played>;
  /** Runs SQL as whoever opens the SQL editor. */
  sql(text: string): Promise<Played>;
  stop(): Promise<void>;
}

export interface WorldOptions {
  env?: Record<string, string>;
  /** Default: a migrated one of its own, dropped at the end. */
  database?: TestDatabase;
  /** False: the sandbox has no endpoint. Otherwise the secret it signs with. */
  endpoint?: false | string;
  /** False: no server; `restart` starts it. */
  server?: false;
}

export async function openWorld(options: WorldOptions = {}): Promise<World> {
  const database = options.database ?? (await createTestDatabase());
  const sandbox = await startSandbox();
  await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(undefined)));
  const folder = createTempFolder('runbook');
  const bin = makeCommands(folder.dir);
  await ensureServerBuilt();
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const world: World = {
    url,
    database,
    sandbox,
    stripe: new Stripe(sandbox.secretKey, {
      host: sandbox.host,
      port: sandbox.port,
      protocol: 'http',
    }),
    env: {
      ...stackEnv(database.connectionString, sandbox),
      PORT: String(port),
      PUBLIC_URL: url,
      ...options.env,
    },
    server: undefined as never,
    call: (method, target, callOptions) => callServer(url, method, target, callOptions),
    token: (user) => signToken(user),
    async buy(user) {
      const { status, body } = await world.call('POST', '/api/checkout-session', {
        bearer: await signToken(user),
        body: { plan: 'pack_50' },
      });
      if (status !== 200) throw new Error(`No checkout: ${JSON.stringify(body)}`);
      await sandbox.pay(body.session_id);
      return body.session_id;
    },
    async untold(work) {
      // A late event of something else would read the new state from Stripe.
      await world.settled();
      const { data } = await world.stripe.webhookEndpoints.list();
      const [id = ''] = data.map((endpoint) => endpoint.id);
      await world.stripe.webhookEndpoints.update(id, { disabled: true });
      try {
        return await work();
      } finally {
        await world.stripe.webhookEndpoints.update(id, { disabled: false });
      }
    },
    async settled() {
      await waitFor(
        async () =>
          (await sandbox.deliveries({ status: 'pending' })).every(
            ({ attempts }) => attempts.length > 0,
          ) &&
          (
            await database.query(
              `select 1 from stripe_webhook_events where status in ('received', 'leased')`,
            )
          ).length === 0,
        'every event to be worked on',
        // A worker that was cut off leaves its event leased for a while.
        SETTLED_SECONDS_MAX,
      );
    },
    async waitForBalance(user, balance) {
      let last: unknown;
      await waitFor(async () => {
        const answer = await world.call('GET', `/api/users/${encodeURIComponent(user)}/credits`, {
          bearer: world.env.PURSER_SERVICE_KEY?.split(',')[0] ?? '',
        });
        last = answer.body;
        return answer.body?.balance === balance;
      }, `${user} to have ${balance} credits`).catch((error: Error) => {
        throw new Error(`${error.message}; it is ${JSON.stringify(last)}`);
      });
    },
    async restart(change) {
      await world.server?.stop();
      Object.assign(world.env, change);
      world.server = await startServerProcess(world.env);
    },
    shell: (text, env = {}) =>
      runShell(text, folder.dir, {
        ...world.env,
        PATH: `${bin}${path.delimiter}${process.env.PATH ?? ''}`,
        PURSER_URL: url,
        PURSER_ADMIN_KEY: ADMIN_KEY,
        PURSER_SERVICE_KEY: SERVICE_KEY,
        ...env,
      }),
    sql: (text) => runSql(database.connectionString, text),
    async stop() {
      await world.server?.stop();
      await sandbox.stop();
      folder.remove();
      if (options.database === undefined) await database.drop();
    },
  };
  if (options.server !== false) await world.restart({});
  if (options.endpoint !== false) {
    await sandbox.ensureWebhookEndpoint({
      url: `${url}/api/webhooks/stripe`,
      secret: options.endpoint ?? WEBHOOK_SECRET,
    });
  }
  return world;
}

/**
 * A folder with an `npm` that runs what the project's scripts name, without npm's own half second
 * and without looking whether it is built: it is.
 */
function makeCommands(dir: string): string {
  const { scripts } = JSON.parse(readFileSync(path.join(PROJECT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const cases = Object.entries(scripts).flatMap(([name, script]) => {
    const built = /^exec node (.*?)(dist\/\S+)(.*)$/.exec(script);
    if (built === null) return [];
    const [, flags = '', file = '', args = ''] = built;
    return [`${name}) exec node ${flags}${PROJECT}/${file}${args} "$@" ;;`];
  });
  const npm = path.join(dir, 'npm');
  writeFileSync(
    npm,
    `#!/bin/bash
[ "$1" = run ] || { echo "npm $* is not among the scripts" >&2; exit 9; }
shift; name=$1; shift
[ "$1" = -- ] && shift
case $name in
${cases.join('\n')}
*) echo "there is no script $name" >&2; exit 9 ;;
esac
`,
  );
  chmodSync(npm, 0o755);
  return dir;
}

function runShell(text: string, cwd: string, env: Record<string, string>): Promise<Played> {
  return new Promise((resolve, reject) => {
    execFile(
      '/bin/bash',
      ['--norc', '-euo', 'pipefail', '-c', text],
      { cwd, env, timeout: COMMAND_MS_MAX, maxBuffer: 10_000_000 },
      (error, out, err) => {
        const code = error === null ? 0 : error.code;
        if (typeof code === 'number') resolve({ code, out, err, rows: [] });
        else reject(error);
      },
    );
  });
}

async function runSql(connectionString: string, text: string): Promise<Played> {
  const client = new pg.Client({ connectionString });
  const notices: string[] = [];
  client.on('notice', ({ message }) => notices.push(message ?? ''));
  await client.connect();
  try {
    const result = await client.query(text);
    const last = Array.isArray(result) ? (result as pg.QueryResult[]).at(-1) : result;
    return { code: 0, out: '', err: notices.join('\n'), rows: last?.rows ?? [] };
  } finally {
    await client.end();
  }
}

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer();
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
