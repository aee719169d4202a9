/**
 * The narrow ports between the domains and the outside. A port exists only where at least two
 * implementations do. Stripe has none: the official SDK talks to Stripe or to the sandbox.
 */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

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

/** Operations on Redis; each is one atomic command or script, one round trip. */
export interface RedisStore {
  readonly kind: 'memory' | 'tcp' | 'upstash';
  readMirror(userId: string): Promise<MirrorRecord | null>;
  /** Compare-and-set: written when the stored ledger differs or its version is lower. */
  writeMirror(userId: string, record: MirrorRecord): Promise<'applied' | 'stale'>;
  deleteMirror(userId: string): Promise<void>;
  /** Sets a marker with a time to live unless present; false when it was present. */
  setMarker(key: string, ttlSeconds: number): Promise<boolean>;
  hasMarker(key: string): Promise<boolean>;
  deleteMarker(key: string): Promise<void>;
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
