import pc from 'picocolors';
import { runCli } from '../../../src/cli/program.ts';
import type { Terminal } from '../../../src/cli/terminal.ts';

export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** A terminal that is none: 80 columns, no colour unless asked for, nobody to ask. */
export function testTerminal(
  env: Record<string, string | undefined>,
  {
    signal = new AbortController().signal,
    colour = false,
    width = 80,
  }: { signal?: AbortSignal | undefined; colour?: boolean; width?: number } = {},
): Terminal & { printed(): { out: string; err: string } } {
  const out: string[] = [];
  const err: string[] = [];
  return {
    env,
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    colours: pc.createColors(colour),
    width,
    interactive: false,
    signal,
    printed: () => ({ out: out.join('\n'), err: err.join('\n') }),
  };
}

/** Runs a command line as the process would. */
export async function runIt(
  args: readonly string[],
  env: Record<string, string | undefined> = {},
  signal?: AbortSignal,
): Promise<Ran> {
  const terminal = testTerminal(env, { signal });
  const code = await runCli(args, terminal);
  return { code, ...terminal.printed() };
}

/** No line of a screen may be wider than a terminal, addresses to be opened left out. */
export function widest(text: string): number {
  return Math.max(
    ...text
      .split('\n')
      .filter((line) => !/https?:\/\/\S+$/.test(line))
      .map((line) => line.length),
  );
}
