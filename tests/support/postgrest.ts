/**
 * A Supabase project's Data API over HTTP for tests: the gateway with its API keys and faults, and
 * behind it PostgREST's rules in front of a real database (postgrestRpc.ts), or a real PostgREST
 * where POSTGREST_BIN names one.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { startBinary } from './postgrestBinary.ts';
import type { HttpAnswer } from './postgrestErrors.ts';
import { createFaults, type Faults, spoil } from './postgrestFaults.ts';
import { type Engine, type StandInOptions, startStandIn } from './postgrestRpc.ts';
import { makeKeys, type ProjectKeys, signJwt } from './postgrestTokens.ts';

export interface PostgrestOptions {
  /** Address of the database, as superuser; the API itself logs in as `authenticator`. */
  connectionString: string;
  /** Default 1,000, as on Supabase. */
  maxRows?: number;
  /** By role; default 3 s for anon, 8 s for authenticated, none for service_role. */
  statementTimeoutMs?: StandInOptions['statementTimeoutMs'];
  /** After this time the gateway gives up waiting, in milliseconds; default 60,000. */
  apiTimeoutMs?: number;
  /** False = the project has switched its anon and service_role keys off. */
  legacyKeys?: boolean;
  poolMax?: number;
  acquireTimeoutMs?: number;
  /** Default: POSTGREST_BIN decides. */
  engine?: 'stand-in';
}

export interface Postgrest {
  /** The value for SUPABASE_URL. */
  url: string;
  keys: ProjectKeys;
  faults: Faults;
  /** Requests so far that reached the gateway with a good key. */
  readonly requests: number;
  /** A token as the project's Auth would sign it; null = one that never expires. */
  sign(claims: Record<string, unknown>, expiresInSeconds?: number | null): Promise<string>;
  stop(): Promise<void>;
}

const PREFIX = '/rest/v1';
const AUTHENTICATOR_PASSWORD = 'authenticator-of-the-tests';
/** Any number: names "gives authenticator its login" in the maintenance database. */
const LOGIN_LOCK = 7_302_884_115;

export function engineName(): 'stand-in' | 'PostgREST' {
  return process.env.POSTGREST_BIN ? 'PostgREST' : 'stand-in';
}

export async function startPostgrest(options: PostgrestOptions): Promise<Postgrest> {
  const jwtSecret = `jwt-secret-${randomBytes(16).toString('hex')}`;
  const keys = await makeKeys(jwtSecret, randomBytes(10).toString('hex'));
  const standInOptions: StandInOptions = {
    connectionString: await authenticatorUrl(options.connectionString),
    jwtSecret,
    schemas: ['public'],
    maxRows: options.maxRows ?? 1_000,
    statementTimeoutMs: options.statementTimeoutMs ?? { anon: 3_000, authenticated: 8_000 },
    poolMax: options.poolMax ?? 10,
    acquireTimeoutMs: options.acquireTimeoutMs ?? 10_000,
  };
  const binary = options.engine === undefined ? process.env.POSTGREST_BIN : undefined;
  const engine: Engine = binary
    ? await startBinary(binary, standInOptions)
    : await startStandIn(standInOptions);
  const faults = createFaults();
  const apiTimeoutMs = options.apiTimeoutMs ?? 60_000;
  let requests = 0;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    const url = new URL(request.url ?? '/', 'http://gateway');
    const headers = flatten(request);
    const answered = (answer: HttpAnswer) =>
      response.writeHead(answer.status, answer.headers).end(answer.body);
    if (!url.pathname.startsWith(`${PREFIX}/`)) {
      answered(refusal(404, 'no Route matched with those values'));
      return;
    }
    const refused = admit(headers, url.searchParams, keys, options.legacyKeys ?? true);
    if (refused !== null) {
      answered(refused);
      return;
    }
    requests += 1;
    const path = url.pathname.slice(PREFIX.length);
    const functionName = path.replace(/^\/rpc\//, '');
    if (faults.delayMs > 0) await sleep(faults.delayMs);
    const fault = faults.take(functionName, body);
    if (fault?.when === 'before') {
      faults.note({ kind: fault.kind, functionName, committed: false });
      spoil(response, fault.kind, null);
      return;
    }
    const work = engine.handle({
      method: request.method ?? 'GET',
      path,
      query: url.searchParams,
      headers,
      body,
    });
    const late = new AbortController();
    const answer = await Promise.race([work, giveUpAfter(apiTimeoutMs, late.signal)]);
    late.abort();
    work.catch(() => undefined); // after the gateway gave up nobody hears the engine
    if (fault !== null) {
      faults.note({ kind: fault.kind, functionName, committed: answer.status < 300 });
      spoil(response, fault.kind, answer);
    } else answered(answer);
  }

  const server = createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      process.stderr.write(`The PostgREST of the tests failed: ${(error as Error).stack}\n`);
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;

  return {
    url: `http://127.0.0.1:${port}`,
    keys,
    faults,
    get requests() {
      return requests;
    },
    sign: (claims, expiresInSeconds = 3600) => signJwt(jwtSecret, claims, expiresInSeconds),
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await engine.stop();
    },
  };
}

/** Lets `authenticator` log in, once per cluster: roles belong to all its databases. */
async function authenticatorUrl(connectionString: string): Promise<string> {
  const admin = new pg.Client({ connectionString });
  await admin.connect();
  try {
    await admin.query('select pg_advisory_lock($1)', [LOGIN_LOCK]);
    const { rows } = await admin.query(
      `select 1 from pg_roles where rolname = 'authenticator' and rolcanlogin`,
    );
    if (rows.length === 0) {
      await admin.query(`alter role authenticator login password '${AUTHENTICATOR_PASSWORD}'`);
    }
  } finally {
    await admin.end();
  }
  const url = new URL(connectionString);
  url.username = 'authenticator';
  url.password = AUTHENTICATOR_PASSWORD;
  return url.toString();
}

/**
 * The gateway: an API key is required and stands in for a token; a user's own token goes first.
 * Changes `headers` to what PostgREST will see, or gives the refusal.
 */
function admit(
  headers: Record<string, string>,
  query: URLSearchParams,
  keys: ProjectKeys,
  legacyKeys: boolean,
): HttpAnswer | null {
  const key = headers.apikey ?? query.get('apikey');
  query.delete('apikey');
  delete headers.apikey;
  if (!key) {
    const hint = 'No `apikey` request header or url param was found.';
    return refusal(401, 'No API key found in request', hint);
  }
  const isLegacy = key === keys.anon || key === keys.serviceRole;
  if (isLegacy && !legacyKeys) return refusal(401, 'Legacy API keys are disabled');
  if (!isLegacy && key !== keys.secret && key !== keys.publishable) {
    return key.startsWith('sb_')
      ? refusal(401, 'Unregistered API key', 'The provided API key is not registered.')
      : refusal(401, 'Invalid API key', 'Double check your Supabase API key.');
  }
  if (key === keys.secret && /mozilla/i.test(headers['user-agent'] ?? '')) {
    return refusal(401, 'Forbidden use of secret API key in browser');
  }
  const bearer = /^bearer\s+(.*)$/i.exec(headers.authorization ?? '')?.[1];
  if (bearer === undefined || bearer === key) {
    const opens = key === keys.secret || key === keys.serviceRole ? keys.serviceRole : keys.anon;
    headers.authorization = `Bearer ${opens}`;
  } else if (bearer.startsWith('sb_')) return refusal(401, 'Invalid API key');
  return null;
}

function refusal(status: number, message: string, hint?: string): HttpAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify({ message, ...(hint === undefined ? {} : { hint }) }),
  };
}

async function giveUpAfter(ms: number, signal: AbortSignal): Promise<HttpAnswer> {
  await sleep(ms, signal);
  return refusal(504, 'The upstream server is timing out');
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => clearTimeout(timer));
  });
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function flatten({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}
