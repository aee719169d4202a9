import pc from 'picocolors';

/** Where a command writes and what it may do there. Commands print data on `out`, the rest on `err`. */
export interface Terminal {
  env: Readonly<Record<string, string | undefined>>;
  /** One line, or several; a newline follows. */
  out(text: string): void;
  err(text: string): void;
  colours: Colours;
  /** Columns a table may take. */
  width: number;
  /** True when a person can be asked: questions, bars and spinners appear only then. */
  interactive: boolean;
  /** Aborted by Ctrl-C: a command that began something ends it there and says how far it came. */
  signal: AbortSignal;
}

export type Colours = ReturnType<typeof pc.createColors>;

const WIDTH_DEFAULT = 80;
/** Wider lines are hard to read. */
const WIDTH_MAX = 140;

/** No colour where the output is not a terminal, or NO_COLOR is set (https://no-color.org). */
export function processTerminal(signal: AbortSignal): Terminal {
  const { stdout, stderr, stdin, env } = process;
  const plain = env.NO_COLOR !== undefined && env.NO_COLOR !== '';
  return {
    env,
    out: (text) => void stdout.write(`${text}\n`),
    err: (text) => void stderr.write(`${text}\n`),
    colours: pc.createColors(stdout.isTTY === true && !plain && env.TERM !== 'dumb'),
    width: Math.min(stdout.columns || WIDTH_DEFAULT, WIDTH_MAX),
    interactive: stdin.isTTY === true && stderr.isTTY === true && stdout.isTTY === true && !env.CI,
    signal,
  };
}

/** A command that could not do what it was asked: its message is all that is printed. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.cannotRun) {
    super(message);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}

/** What the process ends with. */
export const EXIT = {
  ok: 0,
  /** It ran, and found or left something wrong. */
  findings: 1,
  /** It could not run: wrong usage, no server, wrong key. */
  cannotRun: 2,
  canceled: 130,
} as const;

/**
 * Bytes that would move the cursor or hide text: ids and messages come from outside. The colours the
 * commands use (picocolors) do neither, and are kept.
 */
const CONTROL =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  /\u001b\[(?:1|2|22|31|32|33|36|39)m|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
const isColour = (match: string) => match.length > 1;
export const plainText = (text: string) =>
  text.replace(CONTROL, (match) => (isColour(match) ? match : '?'));

/** The same terminal, with everything that is printed cleaned, whoever wrote it. */
export const cleaned = (terminal: Terminal): Terminal => ({
  ...terminal,
  out: (text) => terminal.out(plainText(text)),
  err: (text) => terminal.err(plainText(text)),
});

/** Values reach a program as they are: what a terminal would act upon is escaped. */
export function printJson({ out }: Terminal, value: unknown): void {
  const escaped = (character: string) =>
    `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  out(JSON.stringify(value, null, 2).replace(CONTROL, escaped));
}
