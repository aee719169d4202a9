/** The whole product in this process, on a database of the caller's, selling at a sandbox. */
import { randomBytes } from 'node:crypto';
import Stripe from 'stripe';
import { listen } from '../../../src/api/server.ts';
import { loadCatalogue } from '../../../src/catalogue/catalogue.ts';
import { openDatabase } from '../../../src/compose/openDatabase.ts';
import { sandboxCatalogue } from '../../../src/compose/sandboxCatalogue.ts';
import { compose } from '../../../src/compose.ts';
import { parseSettings } from '../../../src/config.ts';
import type { LogFields, Logger } from '../../../src/core/ports.ts';
import { type Sandbox, startSandbox } from '../../../src/sandbox/index.ts';
import { createTempFolder } from '../../../tests/support/tempFolder.ts';

export interface ShopAnswer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: read as JSON by whoever asked
  body: any;
}

export interface Shop {
  url: string;
  sandbox: Sandbox;
  /** The official SDK, pointed at the sandbox. */
  stripe: Stripe;
  webhookSecret: string;
  /** Warnings and errors of the server, by message. */
  complaints: ReadonlyMap<string, number>;
  asService(method: string, target: string, body?: unknown, key?: string): Promise<ShopAnswer>;
  asAdmin(method: string, target: string, body?: unknown): Promise<ShopAnswer>;
  stop(): Promise<void>;
}

/** Messages of the server that are kept apart; a number more than that is one message. */
const COMPLAINTS_MAX = 200;

/** Nothing is delivered before an endpoint is named. `now`: the account's clock. */
export async function openShop({
  connectionString,
  seed,
  now,
}: {
  connectionString: string;
  seed: string;
  now?: () => number;
}): Promise<Shop> {
  const folder = createTempFolder('shop');
  const sandbox = await startSandbox({ seed, ...(now === undefined ? {} : { now }) });
  const catalogue = loadCatalogue(undefined);
  await sandbox.seedCatalogue(sandboxCatalogue(catalogue));
  const key = () => randomBytes(24).toString('hex');
  const [serviceKey, adminKey, webhookSecret] = [key(), key(), `whsec_${key()}`];
  const { settings } = parseSettings({
    DATABASE_URL: connectionString,
    STRIPE_SECRET_KEY: sandbox.secretKey,
    STRIPE_API_BASE: sandbox.origin,
    STRIPE_WEBHOOK_SECRET: webhookSecret,
    PURSER_SERVICE_KEY: serviceKey,
    PURSER_ADMIN_KEY: adminKey,
    PURSER_DATA_DIR: folder.dir,
    PORT: '0',
  });
  const complaints = new Map<string, number>();
  const logger = complainingLogger(complaints);
  const database = await openDatabase(settings, logger);
  const purser = await compose({ settings, logger, database });
  const server = await listen(purser.app, {
    host: '127.0.0.1',
    port: 0,
    lifecycle: purser.lifecycle,
    logger,
    closers: [{ name: 'background work', close: purser.stop }],
  });
  await purser.start(server.url);
  const { host, port, secretKey } = sandbox;
  const call = async (
    bearer: string,
    method: string,
    target: string,
    body?: unknown,
    idempotencyKey?: string,
  ): Promise<ShopAnswer> => {
    const response = await fetch(`${server.url}${target}`, {
      method,
      headers: {
        authorization: `Bearer ${bearer}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  };
  return {
    url: server.url,
    sandbox,
    stripe: new Stripe(secretKey, { host, port, protocol: 'http', telemetry: false }),
    webhookSecret,
    complaints,
    asService: (...given) => call(serviceKey, ...given),
    asAdmin: (...given) => call(adminKey, ...given),
    async stop() {
      await server.drain();
      await sandbox.stop();
      folder.remove();
    },
  };
}

function complainingLogger(complaints: Map<string, number>): Logger {
  const complain = (message: string, fields: LogFields = {}) => {
    const { error } = fields as { error?: { message?: string } };
    const told = error?.message === undefined ? message : `${message}: ${error.message}`;
    const general = told.replace(/\b[a-z]+_[A-Za-z0-9_]{14,}|\byear-\d+/g, '…');
    const kept = complaints.has(general) || complaints.size < COMPLAINTS_MAX ? general : 'others';
    complaints.set(kept, (complaints.get(kept) ?? 0) + 1);
  };
  return { error: complain, warn: complain, info() {}, debug() {} };
}
