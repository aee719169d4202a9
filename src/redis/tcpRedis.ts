import { createClient, ErrorReply } from '@redis/client';
import type { Logger, RedisStore } from '../core/ports.ts';
import { type RedisConnection, RedisReplyError, type Reply, redisDown } from './connection.ts';
import { createRedisStore } from './redisStore.ts';
import { locksKeys } from './scripts.ts';

/** Longest wait for a connection and, after it, for the first answer on it. */
const CONNECT_TIMEOUT_MS = 2_000;
/**
 * A connection is looked at this often. Asked something, and not heard from one look to the next,
 * it is given up. A timer for each command would cost a fifth of a read.
 */
const LOOK_EVERY_MS = 1_500;
/** Waits between attempts to connect: doubled from the first to the last. */
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 2_000;
/** A server that is a replica for good is not left more often than this. */
const REPLICA_PAUSE_MS = 5_000;
/** Commands that wait for an answer; more are refused, so that a silent Redis holds no memory. */
const COMMANDS_MAX = 10_000;

export interface TcpRedisOptions {
  /** `redis://` or `rediss://`, with user, password and database number. */
  url: string;
  logger: Logger;
}

/**
 * The port over TCP. Resolves when the first attempt to connect has ended, well or not: Redis
 * holds copies only, so a server starts without it. Errors: throws on a URL it cannot read.
 */
export async function createTcpRedis({ url, logger }: TcpRedisOptions): Promise<RedisStore> {
  const connection = await connect(url, logger);
  return createRedisStore({ kind: 'tcp', connection, keyLocking: locksKeys(url) });
}

/**
 * A connection that comes back by itself. While it is away commands are refused at once: a queue
 * of stale reads helps nobody. Why this client: docs/decisions.
 */
async function connect(url: string, logger: Logger): Promise<RedisConnection> {
  const where = new URL(url).host;
  /** Commands sent and not answered, and answers so far, of the present client. */
  let waiting = 0;
  let heard = 0;
  let atLastLook = { waiting, heard };
  let lost = false;
  let closed = false;
  let leaveAgainAt = 0;
  let client = open();

  function open() {
    const opened = createClient({
      url,
      RESP: 2,
      disableOfflineQueue: true,
      disableClientInfo: true,
      maintNotifications: 'disabled',
      commandsQueueMaxLength: COMMANDS_MAX,
      socket: {
        connectTimeout: CONNECT_TIMEOUT_MS,
        reconnectStrategy: (attempt) =>
          Math.min(RECONNECT_MIN_MS * 2 ** attempt, RECONNECT_MAX_MS) * (0.8 + 0.4 * Math.random()),
      },
    });
    let handshake: NodeJS.Timeout | undefined;
    opened.on('connect', () => {
      handshake = setTimeout(() => {
        if (opened === client) renew('no answer to the greeting');
      }, CONNECT_TIMEOUT_MS).unref();
    });
    opened.on('ready', () => {
      clearTimeout(handshake);
      if (opened !== client) return;
      if (lost) logger.info(`Redis at ${where} is back`);
      lost = false;
    });
    opened.on('error', (error: Error) => {
      clearTimeout(handshake);
      if (opened !== client) return;
      if (!lost && !closed) logger.warn(`Redis at ${where} is away: ${error.message}`);
      lost = true;
    });
    // It ends only by being destroyed: the strategy above always tries again.
    opened.connect().catch(() => clearTimeout(handshake));
    return opened;
  }

  /** The client waits for ever for an answer that does not come; a new one starts afresh. */
  function renew(reason: string): void {
    if (closed) return;
    logger.warn(`Connection to Redis at ${where} is given up: ${reason}`);
    lost = true;
    waiting = 0;
    const old = client;
    client = open();
    if (old.isOpen) old.destroy();
  }

  function leaveReplica(): void {
    if (performance.now() < leaveAgainAt) return;
    leaveAgainAt = performance.now() + REPLICA_PAUSE_MS;
    renew('it is a replica now');
  }

  const look = setInterval(() => {
    const before = atLastLook;
    if (before.waiting > 0 && waiting > 0 && before.heard === heard) {
      renew(`silent for ${LOOK_EVERY_MS} ms`);
    }
    atLastLook = { waiting, heard };
  }, LOOK_EVERY_MS).unref();

  function send(command: string[]): Promise<Reply> {
    const asked = client;
    waiting += 1;
    return asked.sendCommand(command).then(
      (reply) => {
        answered(asked);
        return reply as unknown as Reply;
      },
      (error: unknown) => {
        answered(asked);
        if (!(error instanceof ErrorReply)) throw redisDown(where, error);
        const refusal = new RedisReplyError(error.message);
        // After a failover the old primary still answers, as a replica: by now its name may lead
        // to another server.
        if (refusal.code === 'READONLY' && asked === client) leaveReplica();
        return refusal;
      },
    );
  }

  function answered(asked: typeof client): void {
    if (asked !== client) return;
    waiting -= 1;
    heard += 1;
  }

  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, CONNECT_TIMEOUT_MS);
    const settle = () => {
      clearTimeout(timer);
      resolve();
    };
    client.once('ready', settle);
    client.once('error', settle);
  });

  return {
    send,
    // Commands of one tick leave in one write.
    sendAll: (commands) => Promise.all(commands.map(send)),
    async close() {
      closed = true;
      clearInterval(look);
      if (client.isOpen) client.destroy();
    },
  };
}
