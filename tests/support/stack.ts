/** The whole of Purser in one process for a test file: real Postgres, the sandbox, real HTTP. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { SignJWT } from 'jose';
import Stripe from 'stripe';
import { listen } from '../../src/api/server.ts';
import { loadCatalogue } from '../../src/catalogue/catalogue.ts';
import { type OpenedDatabase, openDatabase } from '../../src/compose/openDatabase.ts';
import { sandboxCatalogue } from '../../src/compose/sandboxCatalogue.ts';
import { type ComposeOptions, compose } from '../../src/compose.ts';
import { parseSettings } from '../../src/config.ts';
import type { LogFields, Logger } from '../../src/core/ports.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { type Postgrest, startPostgrest } from './postgrest.ts';
import { startRedisServer } from './redisServer.ts';
import { findRequirement } from './requirements.ts';
import { startUpstashServer } from './upstashServer.ts';

export const SERVICE_KEY = 'service-key-of-the-tests-0123456789';
export const ADMIN_KEY = 'admin-key-of-the-tests-0123456789ab';
export const CRON_SECRET = 'cron-secret-of-the-tests-0123456789';
export const JWT_SECRET = 'jwt-secret-of-the-tests-0123456789abcdef';
export const WEBHOOK_SECRET = 'whsec_of_the_tests_0123456789';

export interface LogLine {
  level: keyof Logger;
  message: string;
  fields: LogFields;
}

export interface Stack {
  url: string;
  /** The Data API between Purser and the database, with its faults; null with the pg adapter. */
  postgrest: Postgrest | null;
  sandbox: Sandbox;
  /** The official SDK, pointed at the sandbox. */
  stripe: Stripe;
  logs: LogLine[];
  /** An access token as the identity provider would issue it. */
  token(userId: string, claims?: Record<string, unknown>): Promise<string>;
  /** A request with a service key, admin key or user token; JSON in, JSON out. */
  call(method: string, target: string, options?: CallOptions): Promise<CallAnswer>;
  /** Posts an event, signed as Stripe does. */
  deliver(event: unknown, options?: { secret?: string; timestamp?: number }): Promise<CallAnswer>;
  stop(): Promise<void>;
}

export interface CallOptions {
  bearer?: string;
  body?: unknown;
  headers?: Record<string, string>;
}

export interface CallAnswer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: answers are compared as JSON
  body: any;
}

export type DatabaseAdapter = 'pg' | 'supabase';

export interface StackOptions {
  connectionString: string;
  /** Default: PURSER_TEST_DATABASE, which jest.config.js sets per project; else pg. */
  adapter?: DatabaseAdapter;
  env?: Record<string, string>;
  clock?: ComposeOptions['clock'];
  every?: ComposeOptions['every'];
  /** Wraps the database, to inject faults at the port. */
  wrapDatabase?: (database: OpenedDatabase) => OpenedDatabase;
  /** Lets the sandbox deliver its events; without it tests deliver by hand. */
  deliveries?: boolean;
  sandbox?: Sandbox;
}

export function stackEnv(connectionString: string, sandbox: Sandbox): Record<string, string> {
  return {
    DATABASE_URL: connectionString,
    STRIPE_SECRET_KEY: sandbox.secretKey,
    STRIPE_API_BASE: sandbox.origin,
    STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
    PURSER_SERVICE_KEY: SERVICE_KEY,
    PURSER_ADMIN_KEY: ADMIN_KEY,
    CRON_SECRET,
    SUPABASE_JWT_SECRET: JWT_SECRET,
    PORT: '0',
  };
}

/** The adapter under test in this run. */
function chosenAdapter(): DatabaseAdapter {
  const name = process.env.PURSER_TEST_DATABASE ?? 'pg';
  if (name === 'pg' || name === 'supabase') return name;
  throw new Error(`PURSER_TEST_DATABASE is ${name}; it may be pg or supabase.`);
}

/** Redis under test in this run: PURSER_TEST_REDIS, which jest.config.js sets per project. */
async function openTestRedis(): Promise<{ env: Record<string, string>; stop(): Promise<void> }> {
  const kind = process.env.PURSER_TEST_REDIS ?? 'memory';
  if (kind === 'memory') return { env: {}, stop: async () => {} };
  const program = findRequirement('redis-server');
  if (program === null) throw new Error('PURSER_TEST_REDIS needs redis-server.');
  const redis = await startRedisServer({ program });
  if (kind === 'tcp') return { env: { REDIS_URL: redis.url() }, stop: () => redis.stop() };
  if (kind !== 'upstash')
    throw new Error(`PURSER_TEST_REDIS is ${kind}; it may be tcp or upstash.`);
  const upstash = await startUpstashServer({ redisPort: redis.port });
  return {
    env: { UPSTASH_REDIS_REST_URL: upstash.url, UPSTASH_REDIS_REST_TOKEN: upstash.token },
    async stop() {
      await upstash.close();
      await redis.stop();
    },
  };
}

export async function startStack(options: StackOptions): Promise<Stack> {
  const { connectionString, adapter = chosenAdapter() } = options;
  const redis = await openTestRedis();
  const sandbox = options.sandbox ?? (await startSandbox());
  const postgrest = adapter === 'supabase' ? await startPostgrest({ connectionString }) : null;
  const { settings } = parseSettings({
    ...stackEnv(connectionString, sandbox),
    ...(postgrest === null
      ? {}
      : {
          DATABASE_URL: '',
          SUPABASE_URL: postgrest.url,
          SUPABASE_SECRET_KEY: postgrest.keys.secret,
        }),
    ...redis.env,
    PURSER_DATA_DIR: mkdtempSync(path.join(tmpdir(), 'purser-stack-')),
    ...options.env,
  });
  await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(settings.catalogue ?? undefined)));
  const logs: LogLine[] = [];
  const logger = collectingLogger(logs);
  const opened = await openDatabase(settings, logger);
  const purser = await compose({
    settings,
    logger,
    database: options.wrapDatabase?.(opened) ?? opened,
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    ...(options.every === undefined ? {} : { every: options.every }),
  });
  const server = await listen(purser.app, {
    host: '127.0.0.1',
    port: 0,
    lifecycle: purser.lifecycle,
    logger,
    closers: [{ name: 'background work', close: purser.stop }],
  });
  await purser.start(server.url);
  if (options.deliveries) {
    await sandbox.ensureWebhookEndpoint({
      url: `${server.url}/api/webhooks/stripe`,
      secret: WEBHOOK_SECRET,
    });
  }
  const { hostname, port } = new URL(sandbox.origin);
  const stripe = new Stripe(sandbox.secretKey, { host: hostname, port, protocol: 'http' });
  const issuer = settings.identity.hs256?.issuer;
  return {
    url: server.url,
    postgrest,
    sandbox,
    stripe,
    logs,
    token: (userId, claims) => signToken(userId, issuer ? { iss: issuer, ...claims } : claims),
    call: (method, target, callOptions) => callServer(server.url, method, target, callOptions),
    deliver: (event, signing) => deliverEvent(stripe, server.url, event, signing),
    async stop() {
      await server.drain();
      await postgrest?.stop();
      await redis.stop();
      if (options.sandbox === undefined) await sandbox.stop();
    },
  };
}

export function signToken(userId: string, claims: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT({ email: `${userId}@example.com`, role: 'authenticated', ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(userId)
    .setAudience('authenticated')
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(JWT_SECRET));
}

export async function callServer(
  url: string,
  method: string,
  target: string,
  { bearer, body, headers = {} }: CallOptions = {},
): Promise<CallAnswer> {
  const response = await fetch(`${url}${target}`, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    body: json && text !== '' ? JSON.parse(text) : text,
  };
}

export function deliverEvent(
  stripe: Stripe,
  url: string,
  event: unknown,
  { secret = WEBHOOK_SECRET, timestamp }: { secret?: string; timestamp?: number } = {},
): Promise<CallAnswer> {
  const payload = typeof event === 'string' ? event : JSON.stringify(event);
  const signature = stripe.webhooks.generateTestHeaderString({
    payload,
    secret,
    ...(timestamp === undefined ? {} : { timestamp }),
  });
  return callServer(url, 'POST', '/api/webhooks/stripe', {
    body: payload,
    headers: { 'stripe-signature': signature },
  });
}

function collectingLogger(lines: LogLine[]): Logger {
  const collect =
    (level: keyof Logger) =>
    (message: string, fields: LogFields = {}) => {
      lines.push({ level, message, fields });
    };
  return {
    error: collect('error'),
    warn: collect('warn'),
    info: collect('info'),
    debug: collect('debug'),
  };
}

/** Waits until `look` gives something that is not undefined, false or null; at most `seconds`. */
export async function waitFor<T>(
  look: () => Promise<T> | T,
  what: string,
  seconds = 60,
): Promise<NonNullable<T>> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found as NonNullable<T>;
    if (Date.now() > end) throw new Error(`Waited ${seconds} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}
