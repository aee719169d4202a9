/**
 * A stand-in for PostgREST's `/rpc`: its documented rules in front of real Postgres. It knows
 * nothing of tables, filters, embedding or other media types than JSON; see postgrestRules.test.ts
 * for what it is held to.
 */
import pg from 'pg';
import { ApiError, errorAnswer, fromPostgres, type HttpAnswer } from './postgrestErrors.ts';
import { findRoutine, loadRoutines, type Routine } from './postgrestRoutines.ts';
import { type Caller, readCaller } from './postgrestTokens.ts';

export interface ApiRequest {
  method: string;
  /** Without the gateway's prefix: `/rpc/<name>`. */
  path: string;
  query: URLSearchParams;
  headers: Record<string, string>;
  body: string;
}

/** What answers behind the gateway: this stand-in, or a real PostgREST. */
export interface Engine {
  handle(request: ApiRequest): Promise<HttpAnswer>;
  stop(): Promise<void>;
}

export interface StandInOptions {
  /** As the role `authenticator`. */
  connectionString: string;
  jwtSecret: string;
  schemas: string[];
  /** Rows of a set-returning result at most; more are cut off in silence. */
  maxRows: number;
  /** `statement_timeout` by role, in milliseconds; absent = none. */
  statementTimeoutMs: Partial<Record<string, number>>;
  poolMax: number;
  acquireTimeoutMs: number;
}

const { escapeIdentifier: name, escapeLiteral: literal } = pg;

export async function startStandIn(options: StandInOptions): Promise<Engine> {
  const pool = new pg.Pool({
    connectionString: options.connectionString,
    max: options.poolMax,
    connectionTimeoutMillis: options.acquireTimeoutMs,
  });
  // Tests end connections on purpose, idle ones and others.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  // The schema cache: read once, and again whenever `notify pgrst, 'reload schema'` says so.
  let routines = loadRoutines(pool, options.schemas);
  await routines;
  const listener = new pg.Client({ connectionString: options.connectionString });
  listener.on('error', () => undefined);
  await listener.connect();
  await listener.query('listen pgrst');
  listener.on('notification', ({ payload }) => {
    if (payload !== 'reload config') routines = loadRoutines(pool, options.schemas);
  });

  async function answer(request: ApiRequest): Promise<HttpAnswer> {
    const functionName = routeOf(request);
    const caller = await readCaller(request.headers.authorization, options.jwtSecret);
    const schema = schemaOf(request, options.schemas);
    const { raw, keys, isArray } = readArguments(request);
    const isPost = request.method === 'POST';
    const routine = findRoutine(await routines, { schema, name: functionName, keys, isPost });
    const text = transaction(
      options,
      request,
      caller,
      routine,
      callOf(routine, raw, keys, isArray),
    );
    const { body, rows } = await run(pool, text, caller);
    if (routine.returnsVoid) return { status: 204, headers: {}, body: '' };
    return {
      status: 200,
      headers: {
        'content-type': 'application/json; charset=utf-8',
        'content-range': rows === 0 ? '*/*' : `0-${rows - 1}/*`,
      },
      body: request.method === 'HEAD' ? '' : body,
    };
  }

  return {
    async handle(request) {
      try {
        return await answer(request);
      } catch (error) {
        if (error instanceof ApiError) return errorAnswer(error);
        throw error;
      }
    },
    async stop() {
      await listener.end();
      await pool.end();
    },
  };
}

function routeOf({ method, path }: ApiRequest): string {
  const functionName = /^\/rpc\/([^/]+)\/?$/.exec(path)?.[1];
  if (functionName === undefined) {
    throw new ApiError(404, {
      code: 'PGRST125',
      message: 'Invalid path specified in request URL',
    });
  }
  if (!['GET', 'HEAD', 'POST'].includes(method)) {
    throw new ApiError(405, {
      code: 'PGRST101',
      message: `Cannot use the ${method} method on RPC`,
    });
  }
  return decodeURIComponent(functionName);
}

function schemaOf({ method, headers }: ApiRequest, schemas: string[]): string {
  const wanted = headers[method === 'POST' ? 'content-profile' : 'accept-profile'] ?? schemas[0];
  if (wanted !== undefined && schemas.includes(wanted)) return wanted;
  throw new ApiError(406, {
    code: 'PGRST106',
    message: `Invalid schema: ${wanted}`,
    hint: `Only the following schemas are exposed: ${schemas.join(', ')}`,
  });
}

/** Of a POST the body as it is: Postgres reads it, so no number is rounded on the way. */
function readArguments({ method, query, body }: ApiRequest) {
  if (method !== 'POST') {
    const given = Object.fromEntries(query);
    return { raw: JSON.stringify(given), keys: Object.keys(given), isArray: false };
  }
  const raw = body === '' ? '{}' : body;
  const parsed = parseJson(raw);
  if (Array.isArray(parsed)) {
    const [first = {}] = parsed;
    if (parsed.some((one) => keysOf(one).join() !== keysOf(first).join())) {
      throw new ApiError(400, { code: 'PGRST102', message: 'All object keys must match' });
    }
    return { raw, keys: keysOf(first), isArray: true };
  }
  if (parsed === null || typeof parsed !== 'object') return { raw: '[]', keys: [], isArray: true };
  return { raw, keys: keysOf(parsed), isArray: false };
}

function keysOf(value: unknown): string[] {
  return Object.keys(value ?? {}).sort();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(400, { code: 'PGRST102', message: 'Empty or invalid json' });
  }
}

/** `from ...` of the call, its arguments taken out of the raw JSON by `json_to_record`. */
function callOf(routine: Routine, raw: string, keys: string[], isArray: boolean): string {
  const called = `${name(routine.schema)}.${name(routine.name)}`;
  const isScalar = !routine.returnsComposite;
  const call = (args: string) =>
    isScalar
      ? `(select ${called}(${args}) as pgrst_scalar) pgrst_call`
      : `${called}(${args}) pgrst_call`;
  const [only] = routine.params;
  if (only?.name === '') return call(`${literal(raw)}::${only.type}`);
  const given = routine.params.filter((param) => keys.includes(param.name));
  if (given.length === 0) return call('');
  const columns = given.map((param) => `${name(param.name)} ${param.type}`).join(', ');
  const args = given
    .map(
      (param) =>
        `${param.variadic ? 'variadic ' : ''}${name(param.name)} := pgrst_body.${name(param.name)}`,
    )
    .join(', ');
  const reader = isArray ? 'json_to_recordset' : 'json_to_record';
  return (
    `(select * from ${reader}(${literal(raw)}::json) as _(${columns}) limit 1) pgrst_body, ` +
    `lateral ${call(args)}`
  );
}

/** One transaction: settings of role, caller, request and function, then the call. */
function transaction(
  options: StandInOptions,
  { method, path, headers }: ApiRequest,
  caller: Caller,
  routine: Routine,
  call: string,
): string {
  const readOnly = method !== 'POST' || routine.volatility !== 'v';
  const isolation = routine.settings.find(([key]) => key === 'default_transaction_isolation')?.[1];
  const timezone = /(?:^|,)\s*timezone=([^,;\s]+)/.exec(headers.prefer ?? '')?.[1];
  const timeoutMs = options.statementTimeoutMs[caller.role];
  const settings: [string, string][] = [
    ['search_path', options.schemas.map(name).join(', ')],
    ...(timeoutMs === undefined ? [] : [['statement_timeout', `${timeoutMs}`] as [string, string]]),
    ['role', caller.role],
    ['request.jwt.claims', JSON.stringify({ ...caller.claims, role: caller.role })],
    ['request.method', method],
    ['request.path', path],
    ['request.headers', JSON.stringify(headers)],
    ...(timezone === undefined ? [] : [['timezone', timezone] as [string, string]]),
    ...routine.settings,
  ];
  const column = routine.returnsComposite ? 't' : 't.pgrst_scalar';
  const body = routine.returnsVoid
    ? `''`
    : routine.returnsSet
      ? `coalesce(json_agg(${column}), '[]')::text`
      : `coalesce(json_agg(${column})->0, 'null')::text`;
  const limit = routine.returnsSet ? ` limit ${options.maxRows}` : '';
  const selected = routine.returnsComposite ? 'pgrst_call.*' : 'pgrst_call.pgrst_scalar';
  return (
    `begin isolation level ${isolation ?? 'read committed'} ${readOnly ? 'read only' : 'read write'};` +
    `select ${settings.map(([key, value]) => `set_config(${literal(key)}, ${literal(value)}, true)`).join(', ')};` +
    `with pgrst_source as (select ${selected} from ${call}${limit}) ` +
    `select ${body} as body, count(*)::int as rows from pgrst_source t;` +
    'commit'
  );
}

async function run(pool: pg.Pool, text: string, caller: Caller) {
  const client = await pool.connect().catch((error: Error & { code?: string }) => {
    throw error.code === undefined
      ? new ApiError(504, {
          code: 'PGRST003',
          message: 'Timed out acquiring connection from connection pool.',
        })
      : new ApiError(503, {
          code: 'PGRST000',
          message: 'Database connection error. Retrying the connection.',
          details: error.message,
        });
  });
  let broken: Error | undefined;
  try {
    const results = (await client.query(text)) as unknown as pg.QueryResult[];
    return results[2]?.rows[0] as { body: string; rows: number };
  } catch (error) {
    const failure = error as pg.DatabaseError;
    if (failure.severity !== 'ERROR') broken = failure;
    else await client.query('rollback');
    if (failure.code === undefined || failure.severity === undefined) {
      throw new ApiError(503, {
        code: 'PGRST001',
        message: 'Database client error. Retrying the connection.',
        details: failure.message,
      });
    }
    throw fromPostgres(
      { ...failure, code: failure.code, message: failure.message },
      caller.authenticated,
    );
  } finally {
    client.release(broken);
  }
}
