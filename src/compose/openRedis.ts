import type { Settings } from '../config.ts';
import type { Logger, RedisStore } from '../core/ports.ts';
import { guardRedis } from '../redis/guardedRedis.ts';
import { createMemoryRedis } from '../redis/memoryRedis.ts';

export interface OpenedRedis {
  /** For jobs and health checks: no bound but the adapter's own. */
  store: RedisStore;
  /** For requests: bounded, and not asked while it is down. */
  guarded: RedisStore;
  /** One line for the start-up report. */
  description: string;
  stop(): Promise<void>;
}

/**
 * The Redis the settings name, else the one in this process. A server that is away does not keep
 * Purser from starting: it holds copies only. Clients are loaded when they are used.
 */
export async function openRedis(
  settings: Pick<Settings, 'redisUrl' | 'upstash'>,
  { logger, nowMs }: { logger: Logger; nowMs: () => number },
): Promise<OpenedRedis> {
  const { redisUrl, upstash } = settings;
  if (redisUrl !== null) {
    const { createTcpRedis } = await import('../redis/tcpRedis.ts');
    const { host, pathname } = new URL(redisUrl);
    const database = pathname.replace('/', '') || '0';
    const store = await createTcpRedis({ url: redisUrl, logger });
    return opened(store, `Redis at ${host}, database ${database} (REDIS_URL)`, logger);
  }
  if (upstash !== null) {
    const { createUpstashRedis } = await import('../redis/upstashRedis.ts');
    const store = createUpstashRedis(upstash);
    return opened(store, `Upstash at ${new URL(upstash.url).host}`, logger);
  }
  const store = createMemoryRedis({ nowMs });
  return { store, guarded: store, description: 'in this process', stop: () => store.close() };
}

function opened(store: RedisStore, description: string, logger: Logger): OpenedRedis {
  return {
    store,
    guarded: guardRedis(store, { logger }),
    description,
    stop: () => store.close(),
  };
}
