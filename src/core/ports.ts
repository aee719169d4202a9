/**
 * The narrow ports between the domains and the outside. A port exists only where at least two
 * implementations do. Stripe has none: the official SDK talks to Stripe or to the sandbox.
 */

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** Arguments of a database function by parameter name; objects and arrays travel as `jsonb`. */
export type RpcArgs = Record<string, Json | undefined>;

export interface RpcOptions {
  /**
   * True when calling twice has the effect of calling once (reads, and every money function,
   * since its key makes a repeat a replay). Only these are retried after an in-doubt failure.
   * Default true: functions that are not must say so.
   */
  idempotent?: boolean;
  /** Upper bound of one attempt, in milliseconds. */
  timeoutMs?: number;
}

/**
 * One call of one SQL function: one transaction, one `jsonb` answer. A broken contract
 * (SQLSTATE `PTxyz`) and an unreachable database arrive as `PurserError`; expected refusals are
 * an `outcome` word in the answer.
 */
export interface Database {
  readonly kind: 'pg' | 'supabase';
  rpc<T>(name: string, args?: RpcArgs, options?: RpcOptions): Promise<T>;
  /** Resolves when the database answers; rejects with `dependency_down` otherwise. */
  ping(timeoutMs?: number): Promise<void>;
  close(): Promise<void>;
}

/** The Redis copy of one user's balance; field names and meaning are in the contract. */
export interface MirrorRecord {
  ledger: string;
  version: number;
  balance: number;
  held: number;
  available: number;
  suspended: boolean;
  /** Unix milliseconds after which the copy counts as a miss; null = never. */
  valid_until: number | null;
}

/** What became of a copy: `stale` = a newer one of the same ledger is stored, and stays. */
export type MirrorWrite =
  | { outcome: 'applied' | 'equal' }
  | { outcome: 'stale'; storedVersion: number };

/** Which copy was seen, for operations that act only if it is still that one. */
export interface SeenMirror {
  ledger: string;
  version: number;
}

/** Where a fixed window stands: what was counted in it so far, and when the next one may begin. */
export interface WindowCount {
  count: number;
  /** Whole seconds, rounded up; at least 1. */
  resetsInSeconds: number;
}

/**
 * Operations on Redis; each is atomic, one round trip, and may be repeated without harm. They
 * reject with `dependency_down` when Redis does not answer, or answers with an error.
 */
export interface RedisStore {
  readonly kind: 'memory' | 'tcp' | 'upstash';
  /** A copy that is damaged counts as absent: its reader asks the ledger, which mends it. */
  readMirror(userId: string): Promise<MirrorRecord | null>;
  /** The same for many (at most 1000) in one round trip; answers in the order given. */
  readMirrors(userIds: string[]): Promise<(MirrorRecord | null)[]>;
  /** Compare-and-set: written unless a newer copy of the same ledger is stored. */
  writeMirror(userId: string, record: MirrorRecord): Promise<MirrorWrite>;
  /** The same for many (at most 1000) in one round trip; answers in the order given. */
  writeMirrors(copies: { userId: string; record: MirrorRecord }[]): Promise<MirrorWrite[]>;
  deleteMirror(userId: string): Promise<void>;
  /** Deletes the copy if it is still the one seen; else `stale`. */
  removeMirror(userId: string, seen: SeenMirror): Promise<'applied' | 'stale'>;
  /**
   * Walks all copies: begins with cursor null, goes on with the cursor answered, ends when that is
   * null. A copy that is there all the while is met at least once. `seen` is null when the copy
   * is damaged. Two round trips.
   */
  scanMirrors(
    cursor: string | null,
  ): Promise<{ copies: { userId: string; seen: SeenMirror | null }[]; cursor: string | null }>;
  /** How far a job has come, as `moveCursor` wrote it. */
  readCursor(job: string): Promise<string | null>;
  /** Compare-and-set of a job's cursor: `stale` when it is not `seen` any more. */
  moveCursor(job: string, seen: string | null, next: string): Promise<'applied' | 'stale'>;
  /** Sets a marker with a time to live unless present; false when it was present. */
  setMarker(key: string, ttlSeconds: number): Promise<boolean>;
  hasMarker(key: string): Promise<boolean>;
  deleteMarker(key: string): Promise<void>;
  /**
   * Counts one more in the window of `key`, which the first count opens and which ends
   * `windowSeconds` later; answers with this count in it. Not idempotent: a repeat after a lost
   * answer counts once more, so that a limit errs on the strict side.
   */
  countInWindow(key: string, windowSeconds: number): Promise<WindowCount>;
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** Wall-clock time for everything that is not a money rule (those use the database clock). */
export interface Clock {
  now(): Date;
}

export const systemClock: Clock = { now: () => new Date() };

export type LogFields = Record<string, unknown>;

/** Structured logging; fields are redacted by the implementation. */
export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}

/**
 * Takes work that goes on after the answer. A server does nothing with it; a platform that freezes
 * the process once it has answered must be told to wait for it. The work never rejects.
 */
export type RunAfterResponse = (work: Promise<unknown>) => void;
