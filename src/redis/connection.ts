import { PurserError } from '../core/errors.ts';

/** An answer of a Redis server. An error it answers is an answer too: the server is alive. */
export type Reply = string | number | null | RedisReplyError | Reply[];

/** Redis' own refusal of one command: `OOM ...`, `NOSCRIPT ...`, `WRONGTYPE ...`. */
export class RedisReplyError extends Error {
  /** The first word of the text, in capitals by Redis' convention. */
  readonly code: string;

  /** Some refusals repeat the arguments, which may name people: what follows is cut off. */
  constructor(text: string) {
    const clean = text.split(/,? (?:with args beginning|command was)/, 1)[0] ?? '';
    super(clean.slice(0, TEXT_MAX));
    this.name = 'RedisReplyError';
    this.code = /^[A-Z]+/.exec(clean)?.[0] ?? 'ERR';
  }
}

const TEXT_MAX = 200;

/**
 * One client of a Redis server, reduced to what the store needs; adapters differ in nothing else.
 * Both reject with `dependency_down` when no answer came; what was sent may have happened then.
 */
export interface RedisConnection {
  /** One command, one round trip. */
  send(command: string[]): Promise<Reply>;
  /** Many commands (not a transaction) in one round trip; answers in order. */
  sendAll(commands: string[][]): Promise<Reply[]>;
  close(): Promise<void>;
}

/** `where` is a host: never a URL, which may hold a password. */
export function redisDown(where: string, cause: unknown): PurserError {
  const reason = cause instanceof Error ? cause.message || cause.name : String(cause);
  return new PurserError('dependency_down', {
    detail: `Redis at ${where} did not answer: ${reason.slice(0, TEXT_MAX)}. Checks ask the ledger meanwhile.`,
    retryAfterSeconds: 1,
    cause,
  });
}

/** The answer, unless it is an error. Errors: `dependency_down`. */
export function accept(reply: Reply | undefined): Exclude<Reply, RedisReplyError> {
  if (reply instanceof RedisReplyError) {
    throw new PurserError('dependency_down', {
      detail: `Redis refused a command: ${reply.message}`,
      retryAfterSeconds: 1,
      cause: reply,
    });
  }
  if (reply === undefined) throw new Error('Redis answered fewer commands than were sent.');
  return reply;
}
