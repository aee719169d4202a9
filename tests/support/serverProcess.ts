/**
 * The real server as a process of its own, started as `npm start` does and with everything
 * embedded: for what only a process can prove, such as kill -9, signals and a second server.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type CallAnswer, type CallOptions, callServer, waitFor } from './stack.ts';
import { createTempFolder } from './tempFolder.ts';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const BUILD_MS_MAX = 240_000;
/** Long, for a loaded machine: it only decides how long a broken server keeps a test waiting. */
const START_SECONDS_MAX = 60;
const STOP_SECONDS_MAX = 40;
/** Characters of output kept for a failure's message. */
const OUTPUT_MAX = 20_000;

export interface ServerOptions {
  /** PURSER_DATA_DIR, see `createDataDir`; several servers may share it. */
  dataDir: string;
  /** Settings beside PORT=0 and the data directory. Nothing is taken from the tests' environment. */
  env?: Record<string, string>;
  /** The account to run under; needs root. Its HOME is the data directory. */
  account?: { uid: number; gid: number };
  /** Folder with `dist/`, `node_modules/` and `package.json`; default this project, built first. */
  project?: string;
}

export interface ServerProcess {
  url: string;
  pid: number;
  dataDir: string;
  /** The keys of the data directory, for service and admin routes. */
  serviceKey: string;
  adminKey: string;
  /** The parts as the server printed them: mode, database, redis, stripe, keys. */
  parts: Record<string, string>;
  /** Where the sandbox of this data directory is served. */
  sandboxUrl: string;
  /** Of the embedded database, with its password. */
  databaseUrl: string;
  /** The process of the embedded database. */
  postgresPid: number;
  /** All that was printed so far (its end, when it is long), both streams. */
  output(): string;
  /** A request to this server; JSON in, JSON out. */
  call(method: string, target: string, options?: CallOptions): Promise<CallAnswer>;
  /** SIGKILL, as a crash or the kernel's memory killer would; the database stays behind. */
  kill9(): Promise<void>;
  /**
   * SIGTERM. Rejects unless the server exits with 0, and, when it was the last one of its data
   * directory, unless nothing of it is left running. After `kill9` it does nothing; a server that
   * ended by itself is a failure.
   */
  stop(): Promise<void>;
}

/** A fresh PURSER_DATA_DIR. `remove` ends what a failed test left running in it, then deletes it. */
export function createDataDir(account?: { uid: number; gid: number }): {
  dataDir: string;
  remove(): Promise<void>;
} {
  const { dir, remove } = createTempFolder('server');
  if (account) chownSync(dir, account.uid, account.gid);
  return {
    dataDir: dir,
    async remove() {
      for (const child of [...running].filter((one) => one.dataDir === dir)) {
        child.process.kill('SIGKILL');
        await child.ended;
      }
      const postgresPid = readPostgresPid(dir);
      if (postgresPid !== null) process.kill(postgresPid, 'SIGQUIT');
      await waitFor(() => findProcesses(dir).length === 0, `an empty ${dir}`);
      remove();
    },
  };
}

interface Child {
  process: ChildProcess;
  dataDir: string;
  output: string;
  /** Resolves with what the process ended with: its code, or the signal that killed it. */
  ended: Promise<number | string>;
}

/** The servers of this test file that have not ended. */
const running = new Set<Child>();

// A test run that is interrupted leaves no server behind; each stops its database itself.
process.once('exit', () => {
  for (const { process: child } of running) child.kill('SIGTERM');
});

/** Starts a server and waits until it says that it is ready. Rejects with what it printed. */
export async function startServerProcess(options: ServerOptions): Promise<ServerProcess> {
  const { dataDir } = options;
  const child = launch(options, options.project ?? (await buildProject()));
  let exit: number | string | null = null;
  let killed = false;
  void child.ended.then((how) => {
    exit = how;
  });
  const url = await waitFor(
    () => {
      if (exit !== null) throw new Error(`The server ended with ${exit}:\n${child.output}`);
      return /^Purser is listening on (\S+)$/m.exec(child.output)?.[1];
    },
    'the server to listen',
    START_SECONDS_MAX,
  ).catch((error: unknown) => {
    child.process.kill('SIGTERM');
    throw error;
  });
  const keys = JSON.parse(readFileSync(path.join(dataDir, 'keys.json'), 'utf8'));
  const parts = readParts(child.output);

  return {
    url,
    pid: child.process.pid ?? 0,
    dataDir,
    serviceKey: keys.service_key,
    adminKey: keys.admin_key,
    parts,
    sandboxUrl: /http:\/\/[^\s,]+/.exec(parts.stripe ?? '')?.[0] ?? '',
    get databaseUrl() {
      return readDatabaseUrl(dataDir);
    },
    get postgresPid() {
      const pid = readPostgresPid(dataDir);
      if (pid === null) throw new Error(`No database runs in ${dataDir}.`);
      return pid;
    },
    output: () => child.output,
    call: (method, target, callOptions) => callServer(url, method, target, callOptions),
    async kill9() {
      killed = true;
      child.process.kill('SIGKILL');
      await child.ended;
    },
    async stop() {
      if (killed) return;
      child.process.kill('SIGTERM');
      await waitFor(() => exit !== null, 'the server to exit', STOP_SECONDS_MAX);
      if (exit !== 0) throw new Error(`The server ended with ${exit}:\n${child.output}`);
      if ([...running].every((other) => other.dataDir !== dataDir)) expectNothingLeft(dataDir);
    },
  };
}

/** @throws with a list when a process of this data directory, or its database, still runs. */
export function expectNothingLeft(dataDir: string): void {
  const left = findProcesses(dataDir);
  const postgresPid = readPostgresPid(dataDir);
  if (postgresPid !== null) left.push(`postmaster.pid names the live process ${postgresPid}`);
  if (left.length > 0) throw new Error(`Left behind in ${dataDir}:\n${left.join('\n')}`);
}

/** Once per test file, as npm's `prestart` does; costs 20 ms where nothing has changed. */
let built: Promise<string> | null = null;

/** Builds this project where it has to be; answers its folder. */
export function buildProject(): Promise<string> {
  built ??= promisify(execFile)(process.execPath, ['scripts/ensure-build.mjs'], {
    cwd: PROJECT,
    timeout: BUILD_MS_MAX,
  }).then(() => PROJECT);
  return built;
}

/** The arguments of node in the project's start script, so that this cannot drift from it. */
function startArguments(project: string): string[] {
  const { scripts } = JSON.parse(readFileSync(path.join(project, 'package.json'), 'utf8'));
  const found = /^exec node (.+)$/.exec(scripts.start)?.[1];
  if (found === undefined) throw new Error(`The start script is not \`exec node ...\` any more.`);
  return found.split(' ');
}

function launch({ dataDir, env, account }: ServerOptions, project: string): Child {
  const { PATH = '', HOME = '', TMPDIR } = process.env;
  const started = spawn(process.execPath, startArguments(project), {
    cwd: project,
    env: {
      PATH,
      HOME: account ? dataDir : HOME,
      ...(TMPDIR === undefined ? {} : { TMPDIR }),
      PORT: '0',
      PURSER_DATA_DIR: dataDir,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...account,
  });
  const child: Child = {
    process: started,
    dataDir,
    output: '',
    ended: new Promise((resolve) => {
      started.once('error', (error) => resolve(error.message));
      // `close` and not `exit`: the last lines have been read by then.
      started.once('close', (code, signal) => resolve(code ?? signal ?? 'nothing'));
    }),
  };
  const read = (chunk: Buffer) => {
    child.output = (child.output + chunk).slice(-OUTPUT_MAX);
  };
  started.stdout.on('data', read);
  started.stderr.on('data', read);
  running.add(child);
  void child.ended.then(() => running.delete(child));
  return child;
}

function readParts(output: string): Record<string, string> {
  const lines = [...output.matchAll(/^ {2}([a-z]+) +(.+)$/gm)];
  return Object.fromEntries(lines.map(([, part, chosen]) => [part, chosen]));
}

function readState(dataDir: string): { place?: string; port?: number } {
  const file = path.join(dataDir, 'postgres', 'state.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
}

function readDatabaseUrl(dataDir: string): string {
  const password = readFileSync(path.join(dataDir, 'postgres', 'password'), 'utf8').trim();
  return `postgresql://postgres:${password}@127.0.0.1:${readState(dataDir).port}/postgres`;
}

/** Of the live database of this folder, or null. */
function readPostgresPid(dataDir: string): number | null {
  const place = readState(dataDir).place ?? path.join(dataDir, 'postgres');
  const file = path.join(place, 'cluster', 'postmaster.pid');
  if (!existsSync(file)) return null;
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : null;
  }
}

/**
 * The processes that work in this folder or were started with it, as `pid command`. Where there is
 * no /proc the answer is empty and postmaster.pid has to do.
 */
function findProcesses(dataDir: string): string[] {
  if (!existsSync('/proc/self/cmdline')) return [];
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    const command = readProc(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    const env = readProc(() => readFileSync(`/proc/${pid}/environ`, 'utf8'));
    const cwd = readProc(() => readlinkSync(`/proc/${pid}/cwd`));
    const named = [
      ...command.split('\0'),
      ...env.split('\0').map((one) => one.split('=')[1] ?? ''),
    ];
    if ([cwd, ...named].some((name) => name === dataDir || name.startsWith(`${dataDir}/`))) {
      found.push(`${pid} ${command.replaceAll('\0', ' ')}`);
    }
  }
  return found;
}

/** Empty for a process that has ended meanwhile, or of another user. */
function readProc(read: () => string): string {
  try {
    return read();
  } catch {
    return '';
  }
}
