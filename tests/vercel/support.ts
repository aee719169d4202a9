/** The built function in a process of its own, called as Vercel calls it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface RunningFunction {
  url: string;
  /** What it wrote to stdout and stderr so far. */
  output(): string;
  /** Resolves when the platform has frozen the process: all that was handed over has ended. */
  frozen(): Promise<void>;
  /** Must precede each request to a function that freezes. */
  thaw(): void;
  stop(): Promise<void>;
}

export interface FunctionOptions {
  env: Record<string, string>;
  entry?: string;
  options?: ('freeze' | 'helpers')[];
}

export async function startFunction({
  env,
  entry = 'api/index.js',
  options = [],
}: FunctionOptions): Promise<RunningFunction> {
  const child = spawn(process.execPath, ['tests/vercel/platform.mjs', entry, ...options], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stderr.on('data', (chunk) => {
    output += String(chunk);
  });
  const lines = createInterface({ input: child.stdout });
  const port = await new Promise<string>((resolve, reject) => {
    lines.on('line', (line) => {
      output += `${line}\n`;
      const found = /^port (\d+)$/.exec(line)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`The function ended with ${code}:\n${output}`)));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    output: () => output,
    async frozen() {
      while (!(await isStopped(child))) await new Promise((resolve) => setTimeout(resolve, 10));
    },
    thaw: () => void child.kill('SIGCONT'),
    async stop() {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** State `T` of the process list: stopped by a signal. Works on Linux and macOS. */
async function isStopped({ pid }: ChildProcess): Promise<boolean> {
  const ps = spawn('ps', ['-o', 'state=', '-p', String(pid)], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let text = '';
  for await (const chunk of ps.stdout) text += String(chunk);
  if (text.trim() === '') throw new Error('The function has ended.');
  return text.trim().startsWith('T');
}
