import { API_VERSION } from '../context.ts';
import type { Logger } from '../engine.ts';
import type { Sandbox } from '../handle.types.ts';
import { joinOrStartSandbox } from '../join.ts';
import { type Output, textOption, UsageError, type Values } from './command.ts';

const DEFAULT_PORT = 12_111;

export const serveHelp = `  --port <n>               default ${DEFAULT_PORT}; 0 = any free port
  --webhook-url <url>      send every event there
  --webhook-secret <text>  sign with this secret (default: the one the sandbox prints)`;

export const serveOptions = {
  port: { type: 'string', default: String(DEFAULT_PORT) },
  'webhook-url': { type: 'string' },
  'webhook-secret': { type: 'string' },
} as const;

/** Serves until a signal. */
export async function serve(dataDir: string, values: Values, output: Output): Promise<void> {
  const text = textOption(values, 'port') ?? '';
  const port = Number(text);
  if (text === '' || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new UsageError(`--port must be a number from 0 to 65535, not ${text}.`);
  }
  const url = textOption(values, 'webhook-url');
  const secret = textOption(values, 'webhook-secret');
  if (secret !== undefined && url === undefined) {
    throw new UsageError('--webhook-secret needs --webhook-url.');
  }
  const logger = loggerTo(output, values.json === true);
  const sandbox = await joinOrStartSandbox({ port, dataDir, logger });
  const endpoint =
    url === undefined ? null : await sandbox.ensureWebhookEndpoint({ url, secret, name: 'cli' });
  const webhookSecret = endpoint?.secret ?? sandbox.webhookSecret;
  const { origin, host, secretKey, joined } = sandbox;
  output.out(
    values.json === true
      ? `${JSON.stringify({ origin, host, port: sandbox.port, secret_key: secretKey, webhook_secret: webhookSecret, joined })}\n`
      : banner(sandbox, dataDir, url ?? null, webhookSecret),
  );
  await signalled();
  await sandbox.stop();
  if (values.json !== true) output.out('Stripe sandbox stopped.\n');
}

function banner(sandbox: Sandbox, dataDir: string, url: string | null, secret: string): string {
  const { origin, host, port, secretKey, joined } = sandbox;
  return `Stripe sandbox is listening on ${origin}${joined ? ' (served by another process)' : ''}

  API version     ${API_VERSION}
  API key         ${secretKey}
  Webhook secret  ${secret}
  Webhooks go to  ${url ?? 'nowhere yet: --webhook-url, or stripe.webhookEndpoints.create'}
  State           ${dataDir}

  new Stripe('${secretKey}', { host: '${host}', port: ${port}, protocol: 'http' })

Open ${origin} in a browser to buy, refund, dispute and move time. Ctrl-C stops it.
`;
}

function signalled(): Promise<void> {
  return new Promise((stop) => {
    // Someone who joined holds no socket; without this the process would end at once.
    const keepAlive = setInterval(() => {}, 60_000);
    const heard = () => {
      clearInterval(keepAlive);
      stop();
    };
    process.once('SIGINT', heard);
    process.once('SIGTERM', heard);
  });
}

/** With --json the first line is all there is on the output. */
function loggerTo(output: Output, json: boolean): Logger {
  const write = (message: string, details?: object) =>
    `${message}${details ? ` ${JSON.stringify(details)}` : ''}\n`;
  const tell = json
    ? () => {}
    : (message: string, details?: object) => output.out(write(message, details));
  return {
    info: tell,
    warn: tell,
    error: (message, details) => output.err(write(message, details)),
  };
}
