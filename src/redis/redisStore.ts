import type { MirrorRecord, RedisStore, WindowCount } from '../core/ports.ts';
import { accept, type RedisConnection, RedisReplyError, type Reply } from './connection.ts';
import { CREDITS_PATTERN, creditsKey, cursorKey, userOfCreditsKey } from './keys.ts';
import {
  decodeMirror,
  decodeSeen,
  decodeWrite,
  encodeMirror,
  MIRROR_FIELDS,
} from './mirrorFields.ts';
import { createScripts } from './scripts.ts';

/** Keys Redis looks at per step of a scan: bounds how long it serves nobody else. */
const SCAN_COUNT = '1000';

export interface RedisStoreOptions {
  kind: 'tcp' | 'upstash';
  connection: RedisConnection;
  /** Whether scripts are marked for Upstash; see `locksKeys`. */
  keyLocking: boolean;
}

/** The port over a Redis server, however it is reached. */
export function createRedisStore({ kind, connection, keyLocking }: RedisStoreOptions): RedisStore {
  const scripts = createScripts(connection, keyLocking);
  const call = (userId: string, record: MirrorRecord) => ({
    keys: [creditsKey(userId)],
    args: encodeMirror(record),
  });

  /**
   * A copy that cannot be brought up to date must go: a miss asks the ledger, an old copy is
   * believed. A full Redis refuses to write but still deletes; where that fails too the caller is
   * told of the first refusal, and the copy is left to mirror-repair.
   */
  async function drop(userIds: string[]): Promise<void> {
    const deletes = userIds.map((userId) => ['DEL', creditsKey(userId)]);
    await Promise.allSettled([connection.sendAll(deletes)]);
  }

  return {
    kind,

    async readMirror(userId) {
      return decodeReply(await connection.send(readCommand(userId)));
    },

    async readMirrors(userIds) {
      if (userIds.length === 0) return [];
      const replies = await connection.sendAll(userIds.map(readCommand));
      return userIds.map((_, index) => decodeReply(replies[index]));
    },

    async writeMirror(userId, record) {
      const reply = await scripts.run('writeMirror', call(userId, record));
      if (reply instanceof RedisReplyError) await drop([userId]);
      return decodeWrite(accept(reply));
    },

    async writeMirrors(copies) {
      if (copies.length === 0) return [];
      const replies = await scripts.runAll(
        'writeMirror',
        copies.map(({ userId, record }) => call(userId, record)),
      );
      const refused = copies.filter((_, index) => replies[index] instanceof RedisReplyError);
      if (refused.length > 0) await drop(refused.map(({ userId }) => userId));
      return replies.map((reply) => decodeWrite(accept(reply)));
    },

    async deleteMirror(userId) {
      accept(await connection.send(['DEL', creditsKey(userId)]));
    },

    async removeMirror(userId, { ledger, version }) {
      const args = [ledger, String(version)];
      const reply = await scripts.run('removeMirror', { keys: [creditsKey(userId)], args });
      return word(accept(reply));
    },

    async scanMirrors(cursor) {
      const step = ['SCAN', cursor ?? '0', 'MATCH', CREDITS_PATTERN, 'COUNT', SCAN_COUNT];
      const [next, keys] = accept(await connection.send(step)) as [string, string[]];
      const copies = keys.flatMap((key) => {
        const userId = userOfCreditsKey(key);
        return userId === null ? [] : [{ key, userId }];
      });
      const hashes =
        copies.length === 0
          ? []
          : await connection.sendAll(copies.map(({ key }) => ['HMGET', key, 'ledger', 'version']));
      return {
        copies: copies.map(({ userId }, index) => ({
          userId,
          seen: decodeSeen(hashes[index] ?? null),
        })),
        cursor: next === '0' ? null : next,
      };
    },

    async readCursor(job) {
      return text(accept(await connection.send(['GET', cursorKey(job)])));
    },

    async moveCursor(job, seen, next) {
      const args = [seen ?? '', next];
      return word(accept(await scripts.run('moveCursor', { keys: [cursorKey(job)], args })));
    },

    async setMarker(key, ttlSeconds) {
      const reply = await connection.send(['SET', key, '1', 'NX', 'EX', String(ttlSeconds)]);
      return accept(reply) === 'OK';
    },

    async hasMarker(key) {
      return accept(await connection.send(['EXISTS', key])) === 1;
    },

    async deleteMarker(key) {
      accept(await connection.send(['DEL', key]));
    },

    async countInWindow(key, windowSeconds) {
      const args = [String(windowSeconds * 1000)];
      return decodeCount(accept(await scripts.run('countInWindow', { keys: [key], args })));
    },

    async ping() {
      accept(await connection.send(['PING']));
    },

    close: () => connection.close(),
  };
}

const readCommand = (userId: string) => ['HMGET', creditsKey(userId), ...MIRROR_FIELDS];

function decodeReply(reply: Reply | undefined): MirrorRecord | null {
  return isWrongType(reply) ? null : decodeMirror(accept(reply));
}

function isWrongType(reply: Reply | undefined): boolean {
  return reply instanceof RedisReplyError && reply.code === 'WRONGTYPE';
}

function text(reply: Reply): string | null {
  return typeof reply === 'string' ? reply : null;
}

function decodeCount(reply: Reply): WindowCount {
  const [count, leftMs] = Array.isArray(reply) ? reply : [];
  if (typeof count === 'number' && typeof leftMs === 'number') {
    return { count, resetsInSeconds: Math.max(1, Math.ceil(leftMs / 1000)) };
  }
  throw new Error(`A script answered ${JSON.stringify(reply)}`);
}

function word(reply: Reply): 'applied' | 'stale' {
  if (reply === 'applied' || reply === 'stale') return reply;
  throw new Error(`A script answered ${JSON.stringify(reply)}`);
}
