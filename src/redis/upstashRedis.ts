import { errors, type Pipeline, Redis } from '@upstash/redis';
import type { RedisStore } from '../core/ports.ts';
import { type RedisConnection, RedisReplyError, type Reply, redisDown } from './connection.ts';
import { createRedisStore } from './redisStore.ts';
import { locksKeys } from './scripts.ts';

/** Longest life of one request, bulk ones included; hot paths are bounded by the guard. */
const REQUEST_TIMEOUT_MS = 5_000;

export interface UpstashRedisOptions {
  /** REST URL of the database, or of a proxy that speaks Upstash's REST. */
  url: string;
  token: string;
  /** Default: whether the URL is Upstash's own; tests say it for a stand-in. */
  keyLocking?: boolean;
}

/** The port over Upstash's REST API: one request per operation, values as Redis has them. */
export function createUpstashRedis({
  url,
  token,
  keyLocking = locksKeys(url),
}: UpstashRedisOptions): RedisStore {
  return createRedisStore({ kind: 'upstash', connection: connect(url, token), keyLocking });
}

function connect(url: string, token: string): RedisConnection {
  const where = new URL(url).host;
  const redis = new Redis({
    url,
    token,
    // The client's own retries count from one: only 0 sends a command once.
    retry: { retries: 0 },
    // It would read '123' as a number and 'null' as nothing.
    automaticDeserialization: false,
    // It would send reads and writes of one tick as two requests, in no order.
    enableAutoPipelining: false,
    enableTelemetry: false,
    // As a function: with a plain signal an aborted command resolves, to nothing.
    signal: () => AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });

  /**
   * Once more when the request broke: mostly the server had closed an idle connection. Everything
   * the port does may be repeated, so it is no matter whether the first one arrived.
   */
  async function request<T>(attempt: () => Promise<T>): Promise<T> {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof errors.UpstashError || isTimeout(error)) throw error;
      return await attempt();
    }
  }

  return {
    async send([verb = '', ...args]) {
      try {
        return (await request(() => redis.exec([verb, ...args]))) as Reply;
      } catch (error) {
        return refusalOrThrow(error, where);
      }
    },

    async sendAll(commands) {
      try {
        const answers = await request(() => {
          const pipeline = redis.pipeline();
          for (const command of commands) append(pipeline, command);
          return pipeline.exec({ keepErrors: true });
        });
        return (answers as { error?: string; result: Reply }[]).map(({ error, result }) =>
          error === undefined ? result : new RedisReplyError(error),
        );
      } catch (error) {
        const refusal = refusalOrThrow(error, where);
        return commands.map(() => refusal);
      }
    },

    // Requests end by themselves.
    async close() {},
  };
}

/** The client has no way to put a raw command into a pipeline; these are all the store sends. */
function append(pipeline: Pipeline, [verb, first = '', ...rest]: string[]): void {
  const keys = Number(rest[0]);
  switch (verb) {
    case 'EVALSHA':
      pipeline.evalsha(first, rest.slice(1, 1 + keys), rest.slice(1 + keys));
      return;
    case 'EVAL':
      pipeline.eval(first, rest.slice(1, 1 + keys), rest.slice(1 + keys));
      return;
    case 'HMGET':
      pipeline.hmget(first, ...rest);
      return;
    case 'DEL':
      pipeline.del(first, ...rest);
      return;
    default:
      throw new Error(`${verb} is never sent in a batch.`);
  }
}

/** What the database answered with an error, without the arguments the client repeats in it. */
function refusalOrThrow(error: unknown, where: string): RedisReplyError {
  if (error instanceof errors.UpstashJSONParseError) {
    // A gateway's page: its text is of no use, and may hold anything.
    throw redisDown(where, new Error('the answer is not JSON', { cause: error }));
  }
  if (error instanceof errors.UpstashError) return new RedisReplyError(error.message);
  throw redisDown(where, isTimeout(error) ? new Error('timed out') : networkCause(error));
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
}

/** fetch hides the reason (ECONNREFUSED, certificate, name) in its cause. */
function networkCause(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}
