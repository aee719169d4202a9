import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { API_VERSION } from './context.ts';
import type { Logger } from './engine.ts';
import type { Sandbox } from './handle.ts';
import { joinOrStartSandbox } from './join.ts';

const DEFAULT_PORT = 12_111;
const DEFAULT_DATA_DIR = '.purser/sandbox';

const HELP = `Usage: npm run sandbox -- [options]

A stand-in for Stripe on this machine: API, hosted checkout, signed webhooks. No account, no money.

  --port <n>               default ${DEFAULT_PORT}; 0 = any free port
  --data-dir <path>        default ${DEFAULT_DATA_DIR}; keeps state and keys between starts
  --webhook-url <url>      send every event there
  --webhook-secret <text>  sign with this secret (default: the one the sandbox prints)
  --help
`;

const options = {
  port: { type: 'string', default: String(DEFAULT_PORT) },
  'data-dir': { type: 'string', default: DEFAULT_DATA_DIR },
  'webhook-url': { type: 'string' },
  'webhook-secret': { type: 'string' },
  help: { type: 'boolean', default: false },
} as const;

async function main(): Promise<void> {
  const { values } = parseArgs({ options });
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Error(`--port must be a number from 0 to 65535, not ${values.port}.`);
  }
  const url = values['webhook-url'];
  const secret = values['webhook-secret'];
  if (secret !== undefined && url === undefined) {
    throw new Error('--webhook-secret needs --webhook-url.');
  }
  const dataDir = resolve(values['data-dir']);
  const sandbox = await joinOrStartSandbox({ port, dataDir, logger: lineLogger });
  const endpoint =
    url === undefined ? null : await sandbox.ensureWebhookEndpoint({ url, secret, name: 'cli' });
  process.stdout.write(banner(sandbox, dataDir, url ?? null, endpoint?.secret ?? null));
  stopOnSignal(sandbox);
}

function banner(
  sandbox: Sandbox,
  dataDir: string,
  url: string | null,
  secret: string | null,
): string {
  const { origin, host, port, secretKey, joined } = sandbox;
  return `Stripe sandbox is listening on ${origin}${joined ? ' (served by another process)' : ''}

  API version     ${API_VERSION}
  API key         ${secretKey}
  Webhook secret  ${secret ?? sandbox.webhookSecret}
  Webhooks go to  ${url ?? 'nowhere yet: --webhook-url, or stripe.webhookEndpoints.create'}
  State           ${dataDir}

  new Stripe('${secretKey}', { host: '${host}', port: ${port}, protocol: 'http' })

Ctrl-C stops it.
`;
}

function stopOnSignal(sandbox: Sandbox): void {
  let stopping = false;
  const stop = () => {
    if (stopping) return;
    stopping = true;
    clearInterval(keepAlive);
    sandbox.stop().then(
      () => process.stdout.write('Stripe sandbox stopped.\n'),
      (error: unknown) => fail(error),
    );
  };
  // Someone who joined holds no socket; without this the process would end at once.
  const keepAlive = setInterval(() => {}, 60_000);
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

const line = (message: string, details?: object) =>
  void process.stdout.write(`${message}${details ? ` ${JSON.stringify(details)}` : ''}\n`);
const lineLogger: Logger = { info: line, warn: line, error: line };

function fail(error: unknown): void {
  const { code, message } = error as NodeJS.ErrnoException;
  const hint =
    code === 'EADDRINUSE'
      ? 'The port is taken by another program: choose one with --port.'
      : message;
  process.stderr.write(`${hint}\n`);
  process.exitCode = 1;
}

main().catch(fail);
