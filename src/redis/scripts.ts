import { createHash } from 'node:crypto';
import { LUA_SCRIPTS } from '../generated/lua.ts';
import { type RedisConnection, RedisReplyError, type Reply } from './connection.ts';

export type ScriptName = keyof typeof LUA_SCRIPTS;

export interface ScriptCall {
  keys: string[];
  args: string[];
}

/**
 * Upstash locks the whole database for each script, unless its first line says that it touches
 * its keys only. Redis itself refuses a script with that line.
 */
const KEY_LOCKING = '#!lua flags=allow-key-locking';

/** True for Upstash's own servers, over REST or TCP; a REST proxy elsewhere runs plain Redis. */
export function locksKeys(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === 'upstash.io' || hostname.endsWith('.upstash.io');
}

export interface Scripts {
  run(name: ScriptName, call: ScriptCall): Promise<Reply>;
  /** Many calls of one script in one round trip; a call's error is its answer. */
  runAll(name: ScriptName, calls: ScriptCall[]): Promise<Reply[]>;
}

/**
 * Calls scripts by their digest. A server that does not know one (it was restarted, or its scripts
 * were flushed) is sent the text once: the only case of a second round trip.
 */
export function createScripts(connection: RedisConnection, keyLocking: boolean): Scripts {
  const names = Object.keys(LUA_SCRIPTS) as ScriptName[];
  const texts = new Map(
    names.map((name) => {
      const text = keyLocking ? `${KEY_LOCKING}\n${LUA_SCRIPTS[name]}` : LUA_SCRIPTS[name];
      return [name, { text, digest: createHash('sha1').update(text).digest('hex') }];
    }),
  );
  const of = (name: ScriptName) => texts.get(name) as { text: string; digest: string };
  const command = (verb: string, script: string, { keys, args }: ScriptCall) => [
    verb,
    script,
    String(keys.length),
    ...keys,
    ...args,
  ];

  return {
    async run(name, call) {
      const { text, digest } = of(name);
      const reply = await connection.send(command('EVALSHA', digest, call));
      return isUnknown(reply) ? connection.send(command('EVAL', text, call)) : reply;
    },
    async runAll(name, calls) {
      const { text, digest } = of(name);
      const replies = await connection.sendAll(
        calls.map((call) => command('EVALSHA', digest, call)),
      );
      const unknown = [...replies.keys()].filter((index) => isUnknown(replies[index] ?? null));
      if (unknown.length === 0) return replies;
      // The first sends the text along; the others of the same round trip find it loaded.
      const again = await connection.sendAll(
        unknown.map((index, place) => {
          const call = calls[index] as ScriptCall;
          return place === 0 ? command('EVAL', text, call) : command('EVALSHA', digest, call);
        }),
      );
      for (const [place, index] of unknown.entries()) replies[index] = again[place] ?? null;
      return replies;
    },
  };
}

function isUnknown(reply: Reply): boolean {
  return reply instanceof RedisReplyError && reply.code === 'NOSCRIPT';
}
