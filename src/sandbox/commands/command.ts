import type { ParseArgsConfig } from 'node:util';
import type { Sandbox } from '../handle.types.ts';

type Options = NonNullable<ParseArgsConfig['options']>;
export type Values = Readonly<Record<string, string | boolean | undefined>>;

/** The part of a sandbox that a command uses; it may run in another process. */
export type Remote = Omit<Sandbox, 'host' | 'port' | 'joined' | 'stop' | 'webhookSecret'>;

/** Where a command line writes to. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
}

/** One command of the command line, done by the control API of a running sandbox. */
export interface Command {
  /** After the name, e.g. `<price> [options]`. */
  readonly usage: string;
  /** One line. */
  readonly about: string;
  /** More lines: options and examples. */
  readonly help?: string;
  readonly options?: Options;
  /** What it answers with --json. @throws UsageError for what was typed wrong. */
  readonly run: (sandbox: Remote, words: readonly string[], values: Values) => Promise<unknown>;
  /** The same for people. */
  readonly show: (answer: never) => string;
}

export function command<A>(
  parts: Omit<Command, 'run' | 'show'> & {
    run: (sandbox: Remote, words: readonly string[], values: Values) => Promise<A>;
    show: (answer: A) => string;
  },
): Command {
  return parts;
}

/** What was typed cannot be meant; the message says what to type. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** The word at its place. @throws UsageError naming it when it is missing. */
export function word(words: readonly string[], at: number, name: string): string {
  const found = words[at];
  if (found === undefined) throw new UsageError(`<${name}> is missing.`);
  return found;
}

export function textOption(values: Values, name: string): string | undefined {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
}

/** @throws UsageError when it is not a number. */
export function numberOption(values: Values, name: string): number | undefined {
  const text = textOption(values, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new UsageError(`--${name} must be a number, not ${text}.`);
  }
  return value;
}

/** `--limit`, a whole number from 1 to `most`. @throws UsageError */
export function limitOption(values: Values, otherwise: number, most: number): number {
  const value = numberOption(values, 'limit') ?? otherwise;
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new UsageError(`--limit must be a whole number from 1 to ${most}, not ${value}.`);
}

/** Without what was not given, so that a default of the sandbox can stand. */
export function given<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
