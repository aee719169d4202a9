/** A real PostgREST as the engine, for machines that have one: POSTGREST_BIN names it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import type { HttpAnswer } from './postgrestErrors.ts';
import type { ApiRequest, Engine, StandInOptions } from './postgrestRpc.ts';

const START_SECONDS_MAX = 30;
const LOG_CHARACTERS_MAX = 4_000;

export async function startBinary(binary: string, options: StandInOptions): Promise<Engine> {
  const port = await freePort();
  const child = spawn(binary, [], {
    env: {
      PGRST_DB_URI: options.connectionString,
      PGRST_DB_SCHEMAS: options.schemas.join(','),
      PGRST_DB_ANON_ROLE: 'anon',
      PGRST_DB_MAX_ROWS: String(options.maxRows),
      PGRST_DB_POOL: String(options.poolMax),
      PGRST_DB_POOL_ACQUISITION_TIMEOUT: String(Math.ceil(options.acquireTimeoutMs / 1000)),
      PGRST_JWT_SECRET: options.jwtSecret,
      PGRST_SERVER_HOST: '127.0.0.1',
      PGRST_SERVER_PORT: String(port),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const readLog = collectLog(child);
  const origin = `http://127.0.0.1:${port}`;
  const giveUpAt = Date.now() + START_SECONDS_MAX * 1000;
  while (!(await isReady(origin))) {
    if (child.exitCode !== null || Date.now() > giveUpAt) {
      child.kill();
      throw new Error(`${binary} did not start:\n${readLog()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    handle: (request) => forward(origin, request),
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      if (child.exitCode === null && child.kill()) await ended;
    },
  };
}

/** 503 until the schema cache is loaded. */
async function isReady(origin: string): Promise<boolean> {
  try {
    return (await fetch(`${origin}/rpc/purser_schema_version`)).status !== 503;
  } catch {
    return false; // not listening yet, which is the answer
  }
}

async function forward(origin: string, request: ApiRequest): Promise<HttpAnswer> {
  const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers;
  const query = request.query.size === 0 ? '' : `?${request.query}`;
  const response = await fetch(`${origin}${request.path}${query}`, {
    method: request.method,
    headers,
    ...(request.method === 'POST' ? { body: request.body } : {}),
  });
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.text(),
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0));
    });
  });
}

function collectLog(child: ChildProcess): () => string {
  let log = '';
  const add = (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-LOG_CHARACTERS_MAX);
  };
  child.stdout?.on('data', add);
  child.stderr?.on('data', add);
  return () => log;
}
