/** The supabase-js adapter of the Database port: RPC over HTTP, nothing but `POST /rpc/<name>`. */
import { createClient } from '@supabase/supabase-js';
import { PurserError } from '../core/errors.ts';
import type { Database, Json, RpcArgs, RpcOptions } from '../core/ports.ts';
import {
  findSupabaseKeyFault,
  findSupabaseUrlFault,
  type SupabaseFault,
} from '../core/supabaseSettings.ts';
import type { AttemptContext } from './callFailure.ts';
import { createCallGate } from './callGate.ts';
import { createRepeater, type RepeatOptions } from './repeatCall.ts';
import { classifyRestError, RestError, type RestTarget } from './restErrors.ts';
import { checkArgs, storableText } from './rpcArgs.ts';

const PING_TIMEOUT_MS = 2_000;
/** A function of ours that only reads a constant: the cheapest question the API can be asked. */
const PING_FUNCTION = 'purser_schema_version';

export interface SupabaseDatabaseOptions extends RepeatOptions {
  /** `https://<project>.supabase.co`; a slash at the end does no harm. */
  url: string;
  /** A secret key (`sb_secret_...`) or the legacy `service_role` JWT. */
  secretKey: string;
  /** Calls at the same time at most, default 32. */
  concurrencyMax?: number;
  /** Longest wait for one of these places, in milliseconds; default 5,000. */
  acquireTimeoutMs?: number;
  /**
   * Longest wait for one answer, in milliseconds; default 10,000. The server is not told: its own
   * limit is that of the role (8 s unless changed), so that it mostly answers before.
   */
  callTimeoutMs?: number;
  /** Default the built-in one. */
  fetch?: typeof fetch;
}

/** Realtime is never used; without a transport supabase-js refuses to start on Node 20. */
class NoRealtime {
  constructor() {
    throw new Error('Purser uses no Realtime connection.');
  }
}

/**
 * Opens no connection until the first call. Repeats like the `pg` adapter: supabase-js itself
 * never repeats a POST. Throws `dependency_down` at once for an address or key that cannot work,
 * without showing the key.
 */
export function createSupabaseDatabase(options: SupabaseDatabaseOptions): Database {
  const target: RestTarget = { url: options.url.trim(), secretKey: options.secretKey.trim() };
  refuse('SUPABASE_URL', findSupabaseUrlFault(target.url));
  refuse('SUPABASE_SECRET_KEY', findSupabaseKeyFault(target.secretKey, target.url, nowSeconds()));
  const callTimeoutMs = options.callTimeoutMs ?? 10_000;
  const acquireTimeoutMs = options.acquireTimeoutMs ?? 5_000;
  const concurrencyMax = options.concurrencyMax ?? 32;
  const gate = createCallGate(concurrencyMax);
  const repeat = createRepeater(options);
  const givenFetch = options.fetch ?? fetch;

  // supabase-js turns a failed fetch into text; whether anything was sent stands in the error.
  const fetchErrors = new WeakMap<AbortSignal, unknown>();
  const observedFetch: typeof fetch = async (input, init) => {
    try {
      // Followed, a redirect would turn the POST into a GET, and send the key to wherever it leads.
      return await givenFetch(input, { ...init, redirect: 'manual' });
    } catch (error) {
      if (init?.signal) fetchErrors.set(init.signal, error);
      throw error;
    }
  };
  const client = createClient(target.url, target.secretKey, {
    // Instead of the session machinery: nobody ever signs in here, and asking it for a session
    // cost a quarter of a call's time (measured: 1.35 against 1.01 ms, a bare fetch 0.95).
    accessToken: async () => target.secretKey,
    realtime: { transport: NoRealtime as never },
    global: {
      fetch: observedFetch,
      // The pg adapter sets the same: answers must not depend on the database's own setting.
      headers: { prefer: 'timezone=UTC' },
    },
  });

  async function callOnce<T>(
    name: string,
    args: Record<string, Json>,
    timeoutMs: number,
    context: AttemptContext,
  ): Promise<T> {
    const leave = await gate.enter(Math.min(acquireTimeoutMs, timeoutMs));
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      context.sent = true;
      const { data, error, status } = await client.rpc(name, args).abortSignal(signal);
      if (error !== null) {
        const cause = fetchErrors.get(signal) ?? (signal.aborted ? signal.reason : undefined);
        throw new RestError(status, error, cause);
      }
      // Our functions all answer with JSON; an empty answer is somebody else's.
      if (status === 204) throw new RestError(status, { message: 'an empty answer' }, undefined);
      return data as T;
    } finally {
      leave();
    }
  }

  async function rpc<T>(name: string, args: RpcArgs = {}, rpcOptions: RpcOptions = {}): Promise<T> {
    const named: Record<string, Json> = {};
    for (const arg of checkArgs(name, args)) {
      if (arg.value !== null && typeof arg.value === 'object') storableText(arg.value, arg.where);
      named[arg.name] = arg.value;
    }
    const timeoutMs = rpcOptions.timeoutMs ?? callTimeoutMs;
    return repeat({
      functionName: name,
      idempotent: rpcOptions.idempotent !== false,
      attempt: (context) => callOnce<T>(name, named, timeoutMs, context),
      classify: (cause, context) => classifyRestError(target, cause, context),
    });
  }

  return {
    kind: 'supabase',
    rpc,
    async ping(timeoutMs = PING_TIMEOUT_MS) {
      const context: AttemptContext = { functionName: 'a ping', sent: false };
      try {
        await callOnce(PING_FUNCTION, {}, timeoutMs, context);
      } catch (error) {
        // An API without the function is up; that the migration is missing is told elsewhere.
        if (error instanceof RestError && error.report.code === 'PGRST202') return;
        throw classifyRestError(target, error, context).error;
      }
    },
    close: () => gate.close(),
  };
}

function refuse(variable: string, fault: SupabaseFault | null): void {
  if (fault === null) return;
  throw new PurserError('dependency_down', {
    detail: `${variable} ${fault.problem}. ${fault.fix}`,
  });
}

function nowSeconds(): number {
  return Date.now() / 1000;
}
