/** The `pg` adapter of the Database port: a direct connection, or one through a pooler. */
import { setTimeout as sleepMs } from 'node:timers/promises';
import pg from 'pg';
import type { Database, RpcArgs, RpcOptions } from '../core/ports.ts';
import {
  type AttemptContext,
  allBusy,
  closedDatabase,
  tooManyWaiting,
  WAITING_MAX,
} from './callFailure.ts';
import { buildCall } from './pgCall.ts';
import { connectionConfig } from './pgConnection.ts';
import { classifyPgError, leavesConnectionUsable } from './pgErrors.ts';
import { createRepeater, type RepeatOptions } from './repeatCall.ts';

/** The server ends a statement at its limit; the client waits this much longer for the news. */
const ANSWER_GRACE_MS = 2_000;
const PING_TIMEOUT_MS = 2_000;
const IDLE_CONNECTION_MS = 30_000;

export interface PgDatabaseOptions extends RepeatOptions {
  /** `postgresql://user:password@host:port/database?sslmode=...`; a transaction pooler is fine. */
  connectionString: string;
  /** Connections at most, default 10. */
  poolMax?: number;
  /** Longest wait for a connection, free or new, in milliseconds; default 5,000. */
  acquireTimeoutMs?: number;
  /** Bound of one call in the server, in milliseconds; default 10,000. */
  statementTimeoutMs?: number;
  /** Longest wait for one row lock, in milliseconds; default 5,000. */
  lockTimeoutMs?: number;
}

interface Settings {
  statementTimeoutMs: number;
  lockTimeoutMs: number;
  poolMax: number;
}

/**
 * Opens no connection until the first call. Calls are repeated after transient failures; after an
 * in-doubt one (sent, answer lost) only if idempotent. Rejects with `dependency_down` when the
 * database cannot be reached in time, `overloaded` when too many callers wait already.
 */
export function createPgDatabase(options: PgDatabaseOptions): Database {
  const settings: Settings = {
    statementTimeoutMs: options.statementTimeoutMs ?? 10_000,
    lockTimeoutMs: options.lockTimeoutMs ?? 5_000,
    poolMax: options.poolMax ?? 10,
  };
  const repeat = createRepeater(options);
  const pool = new pg.Pool({
    ...connectionConfig(options.connectionString),
    max: settings.poolMax,
    connectionTimeoutMillis: options.acquireTimeoutMs ?? 5_000,
    idleTimeoutMillis: IDLE_CONNECTION_MS,
    keepAlive: true,
    application_name: 'purser',
  });
  // An idle connection that the server closed has left the pool already; without a listener the
  // event would end the process.
  pool.on('error', (error) => {
    options.logger?.warn('A database connection was lost while idle', { error: error.message });
  });
  // While checked out the pool does not listen, and the server's farewell may come in the same
  // packet as the end of the handshake: unheard, it would end the process. Whoever waits for an
  // answer on the connection hears of it there.
  pool.on('connect', (client) => client.on('error', () => undefined));
  let closing: Promise<void> | null = null;

  async function callOnce<T>(text: string, timeoutMs: number, context: AttemptContext): Promise<T> {
    const client = await acquire(pool, settings);
    context.sent = true;
    try {
      const answer = await runOn(client, text, timeoutMs + ANSWER_GRACE_MS);
      client.release();
      return answer as T;
    } catch (error) {
      client.release(leavesConnectionUsable(error) ? undefined : (error as Error));
      throw error;
    }
  }

  async function rpc<T>(name: string, args: RpcArgs = {}, rpcOptions: RpcOptions = {}): Promise<T> {
    const timeoutMs = rpcOptions.timeoutMs ?? settings.statementTimeoutMs;
    const text = buildCall(name, args, {
      statementTimeoutMs: timeoutMs,
      lockTimeoutMs: Math.min(settings.lockTimeoutMs, timeoutMs),
    });
    return repeat({
      functionName: name,
      idempotent: rpcOptions.idempotent !== false,
      attempt: (context) => callOnce<T>(text, timeoutMs, context),
      classify: classifyPgError,
    });
  }

  return {
    kind: 'pg',
    rpc,
    async ping(timeoutMs = PING_TIMEOUT_MS) {
      const context: AttemptContext = { functionName: 'a ping', sent: false };
      const answer = callOnce(
        `set local statement_timeout = ${Math.ceil(timeoutMs)};select 1 as answer`,
        timeoutMs,
        context,
      );
      const late = new AbortController();
      try {
        await Promise.race([answer, rejectAfter(timeoutMs, late.signal)]);
      } catch (error) {
        answer.catch(() => undefined);
        throw classifyPgError(error, context).error;
      } finally {
        late.abort();
      }
    },
    close() {
      closing ??= pool.end();
      return closing;
    },
  };
}

/** The bound of a ping as a whole: waiting for a connection counts too. */
async function rejectAfter(ms: number, signal: AbortSignal): Promise<never> {
  await sleepMs(ms, undefined, { signal, ref: false }).catch(() => new Promise(() => undefined));
  throw new Error(`no answer within ${ms} ms`);
}

async function acquire(pool: pg.Pool, settings: Settings): Promise<pg.PoolClient> {
  if (pool.ending) throw closedDatabase();
  if (pool.waitingCount >= WAITING_MAX) throw tooManyWaiting();
  const exhausted = pool.totalCount >= settings.poolMax && pool.idleCount === 0;
  try {
    return await pool.connect();
  } catch (error) {
    if (!exhausted || (error as { code?: string }).code !== undefined) throw error;
    throw allBusy(settings.poolMax, error);
  }
}

/** Runs the message on a checked-out connection: the answer of its last statement. */
async function runOn(client: pg.PoolClient, text: string, answerWithinMs: number) {
  const query = { text, query_timeout: answerWithinMs };
  const result = await client.query(query);
  const last = (Array.isArray(result) ? result.at(-1) : result) as pg.QueryResult;
  return (last.rows[0] as { answer?: unknown } | undefined)?.answer;
}
