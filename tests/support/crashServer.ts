/** Purser in processes of their own, for tests that end them or run several on one database. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createTempFolder } from './tempFolder.ts';

const START_TIMEOUT_MS = 30_000;
/** Of what a process said, for the message of a failed test. */
const OUTPUT_TAIL_CHARS = 4_000;
const BUILT_SERVER = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const FAILING_SERVER = fileURLToPath(new URL('./failingServer.ts', import.meta.url));
const BUILD = fileURLToPath(new URL('../../scripts/ensure-build.mjs', import.meta.url));

export interface ServerProcess {
  url: string;
  pid: number;
  /** Everything it has printed so far. */
  output(): string;
  signal(name: NodeJS.Signals): void;
  /** Resolves when it has ended: its exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>;
  /** Ends it as a supervisor does, with SIGTERM and waiting. */
  stop(): Promise<number | NodeJS.Signals>;
}

/** Compiles the server where that is needed; the built one is what users run. */
export async function ensureServerBuilt(): Promise<void> {
  await promisify(execFile)(process.execPath, [BUILD, 'server']);
}

/** `npm start` without npm: the built server with these settings and no others. */
export function startServerProcess(env: Record<string, string>): Promise<ServerProcess> {
  return start([BUILT_SERVER], env);
}

/** The real product with a fault at its database port; see failingServer.ts. */
export function startFailingServer(env: Record<string, string>): Promise<ServerProcess> {
  return start(['--import', 'tsx', FAILING_SERVER], env);
}

async function start(args: string[], env: Record<string, string>): Promise<ServerProcess> {
  const folder = createTempFolder('server');
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH ?? '', PURSER_DATA_DIR: folder.dir, ...env },
  });
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const ended = once(child, 'exit').then(([code, signal]) => {
    process.off('exit', killAtExit);
    folder.remove();
    return (signal ?? code) as number | NodeJS.Signals;
  });
  let output = '';
  const listening = new Promise<string>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        output += chunk;
        const url = /^Purser is listening on (\S+)$/m.exec(output)?.[1];
        if (url !== undefined) resolve(url);
      });
    }
  });
  return {
    url: await firstOf(child, listening, ended, () => output.slice(-OUTPUT_TAIL_CHARS)),
    pid: child.pid ?? 0,
    output: () => output,
    signal: (name) => void child.kill(name),
    ended,
    async stop() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

async function firstOf(
  child: ChildProcess,
  listening: Promise<string>,
  ended: Promise<number | NodeJS.Signals>,
  tail: () => string,
): Promise<string> {
  const timer = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
  try {
    return await Promise.race([
      listening,
      ended.then((how) => {
        throw new Error(`The server ended with ${how} before it listened. It said:\n${tail()}`);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
