/** One Postgres server on a data folder: found, started, spoken to and stopped. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chownSync,
  closeSync,
  lchownSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { PurserError } from '../../core/errors.ts';
import { type Binaries, noBinaries } from './binaries.ts';
import { OUTPUT_TAIL_CHARS, serverSpawnOptions } from './cluster.ts';
import { type Home, readOrCreatePassword, saveState } from './home.ts';
import { servesFolder } from './processes.ts';

/** Recovery after a power cut replays the log and may take its time; it is alive meanwhile. */
export const READY_WAIT_MS = 120_000;
/** A fast shutdown writes a checkpoint. */
export const STOP_WAIT_MS = 30_000;
const POLL_MS = 10;
const START_ATTEMPTS = 8;
const SHARED_MEMORY_RETRY_MS = 500;
/** Greater than any pid a system gives: the number of a process that surely does not exist. */
const NO_PID = 2_147_483_646;

export interface RunningServer {
  pid: number;
  port: number;
}

/** The live server of this cluster, if any. Reads only. */
export function findServer(home: Home): (RunningServer & { ready: boolean }) | null {
  const file = readPostmasterFile(home);
  if (file === null) return null;
  return servesFolder(file.pid, home.clusterDir) ? file : null;
}

/** Starts the server on a free loopback port and waits until it accepts connections. */
export async function startServer(
  home: Home,
  binaries: Binaries,
  settings: Readonly<Record<string, string>>,
  onChild: (child: ChildProcess) => void,
): Promise<RunningServer> {
  defusePostmasterFile(home);
  let failure = '';
  for (let attempt = 1; attempt <= START_ATTEMPTS; attempt += 1) {
    const port = await choosePort(attempt === 1 ? home.state.port : undefined);
    const child = await spawnServer(home, binaries, port, settings);
    onChild(child);
    failure = await waitUntilReady(home, child);
    if (failure === '') {
      home.state.port = port;
      saveState(home);
      return { pid: child.pid ?? 0, port };
    }
    // Processes of a server killed a moment ago are still ending: they must not be overtaken.
    if (/pre-existing shared memory block/.test(failure)) await sleep(SHARED_MEMORY_RETRY_MS);
    // Somebody took the port between our look and the server's start.
    else if (!/could not bind|could not create any TCP\/IP sockets/.test(failure)) break;
  }
  throw new PurserError('dependency_down', {
    detail:
      `The embedded database in ${home.clusterDir} did not start. It said:\n${failure}\n` +
      'Fix what it names and start again, or set DATABASE_URL to a Postgres of your own.',
  });
}

/** Waits for a server that somebody else started (and that may still be recovering). */
export async function waitForServer(home: Home): Promise<RunningServer | null> {
  const deadline = Date.now() + READY_WAIT_MS;
  while (Date.now() < deadline) {
    const server = findServer(home);
    if (server === null || server.ready) return server;
    await sleep(POLL_MS);
  }
  return null;
}

/** Proves that the server on this port is ours: both sides of SCRAM know the password. */
export async function verifyServer(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5_000 });
  client.on('error', () => {
    // The failure is the one that connect() or query() below reports.
  });
  try {
    await client.connect();
    await client.query('select 1');
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Fast shutdown; immediate if that takes too long (the next start then recovers from the log). */
export async function stopServer(home: Home): Promise<void> {
  const server = findServer(home);
  if (server === null) return;
  signalServer(server.pid, 'SIGINT');
  if (await hasEnded(server.pid, home, STOP_WAIT_MS)) return;
  signalServer(server.pid, 'SIGQUIT');
  if (await hasEnded(server.pid, home, STOP_WAIT_MS)) return;
  throw new PurserError('dependency_down', {
    detail: `The embedded database (process ${server.pid}) does not stop. End it by hand.`,
  });
}

/** Asks the server to stop without waiting: all that a process on its way out can do. */
export function signalServer(pid: number, signal: 'SIGINT' | 'SIGQUIT'): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits for the server's process to end; false when it still runs after `waitMs`. */
export async function hasEnded(pid: number, home: Home, waitMs: number): Promise<boolean> {
  const deadline = Date.now() + waitMs;
  while (Date.now() < deadline) {
    if (!servesFolder(pid, home.clusterDir)) return true;
    await sleep(POLL_MS);
  }
  return false;
}

async function spawnServer(
  home: Home,
  binaries: Binaries,
  port: number,
  settings: Readonly<Record<string, string>>,
): Promise<ChildProcess> {
  const effective: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: 'on',
    synchronous_commit: 'on',
    // Statements of a failed call may hold personal data, and the file has no other bound.
    log_min_messages: 'log',
    log_checkpoints: 'off',
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...settings,
  };
  const args = Object.entries(effective).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  // A file, not a pipe: the server may outlive this process. Emptied at each start.
  const log = openSync(home.logFile, 'w', 0o600);
  if (home.owner) chownSync(home.logFile, home.owner.uid, home.owner.gid);
  try {
    const child = spawn(
      path.join(binaries.native, 'bin', 'postgres'),
      ['-D', home.clusterDir, '-p', String(port), ...args],
      // A session of its own: Ctrl-C in the terminal is for Purser, which stops the server last.
      {
        ...serverSpawnOptions(home, ['ignore', log, log] as const),
        detached: true,
        windowsHide: true,
      },
    );
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) =>
        reject(noBinaries(`its program postgres cannot be executed (${error.message})`, error)),
      );
    });
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

/** Empty when the server accepts connections, otherwise what it said. */
async function waitUntilReady(home: Home, child: ChildProcess): Promise<string> {
  const deadline = Date.now() + READY_WAIT_MS;
  while (child.exitCode === null && child.signalCode === null) {
    const file = readPostmasterFile(home);
    if (file?.pid === child.pid && file?.ready) return '';
    if (Date.now() > deadline) {
      child.kill('SIGQUIT');
      return `${logTail(home)}\n(not ready after ${READY_WAIT_MS / 1000} s)`;
    }
    await sleep(POLL_MS);
  }
  return (
    logTail(home) || `(nothing; it ended with ${child.signalCode ?? `code ${child.exitCode}`})`
  );
}

function logTail(home: Home): string {
  return readFileSync(home.logFile, 'utf8').slice(-OUTPUT_TAIL_CHARS).trim();
}

/** The previous port when it is free, else any free one. */
async function choosePort(preferred: number | undefined): Promise<number> {
  if (preferred !== undefined && (await probePort(preferred)) !== null) return preferred;
  const port = await probePort(0);
  if (port !== null) return port;
  throw new PurserError('dependency_down', {
    detail: 'No TCP port on 127.0.0.1 is free for the embedded database.',
  });
}

function probePort(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(null));
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : null));
    });
  });
}

/** Lines of postmaster.pid: pid, data folder, start time, port, socket, address, memory, status. */
function readPostmasterFile(home: Home): (RunningServer & { ready: boolean }) | null {
  let lines: string[];
  try {
    lines = readFileSync(path.join(home.clusterDir, 'postmaster.pid'), 'utf8').split('\n');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0) return null;
  return { pid, port: Number(lines[3] ?? 0), ready: lines[7]?.trim() === 'ready' };
}

/**
 * Replaces the pid that a dead server left by one that cannot exist. The number may belong to a
 * stranger by now, or still to the zombie of the server, and then Postgres would refuse to start.
 * The rest of the file stays: by its shared memory line the server still finds processes of its
 * predecessor, a check that removing the file would switch off.
 */
function defusePostmasterFile(home: Home): void {
  const left = readPostmasterFile(home);
  if (left === null || servesFolder(left.pid, home.clusterDir)) return;
  const file = path.join(home.clusterDir, 'postmaster.pid');
  const lines = readFileSync(file, 'utf8').split('\n');
  const draft = `${file}.purser`;
  rmSync(draft, { force: true });
  writeFileSync(draft, [String(NO_PID), ...lines.slice(1)].join('\n'), { flag: 'wx', mode: 0o600 });
  if (home.account) lchownSync(draft, home.account.uid, home.account.gid);
  renameSync(draft, file);
}

/** The address of the server for this project. */
export function connectionStringOf(home: Home, port: number): string {
  return `postgresql://postgres:${readOrCreatePassword(home)}@127.0.0.1:${port}/postgres`;
}
