/**
 * Which processes are alive, told apart even when the system has given a dead one's number to
 * another: a pid file alone would take a stranger for the process that wrote it.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';

/** The identity of a live process whose start time cannot be read (Windows, hidden /proc). */
const UNKNOWN_START = 'alive';

/**
 * A text that no other process of this machine ever had with this pid, or null when the process
 * does not run. A zombie counts as gone: it holds no file and no port.
 */
export function processIdentity(pid: number): string | null {
  if (!Number.isInteger(pid) || pid <= 0) return null;
  if (process.platform === 'linux') {
    const stat = readOrNull(`/proc/${pid}/stat`);
    if (stat !== null) {
      // The second field is the program's name in brackets and may itself hold brackets.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z' || fields[0] === 'X') return null;
      return `${bootId()}:${fields[19] ?? ''}`;
    }
  }
  if (!signalReaches(pid)) return null;
  if (process.platform === 'win32' || process.platform === 'linux') return UNKNOWN_START;
  return psColumn(pid, 'lstart=') ?? UNKNOWN_START;
}

/** True while the process that had this identity runs. */
export function isAlive(pid: number, identity: string): boolean {
  const now = processIdentity(pid);
  return now !== null && (now === identity || now === UNKNOWN_START || identity === UNKNOWN_START);
}

/**
 * True when `pid` is the database server of this data folder. The server's working directory is
 * its data folder; where that may not be read (a container without CAP_SYS_PTRACE) its command
 * line tells.
 */
export function servesFolder(pid: number, clusterDir: string): boolean {
  if (processIdentity(pid) === null) return false;
  if (process.platform === 'linux') {
    try {
      const cwd = statSync(`/proc/${pid}/cwd`);
      const folder = statSync(clusterDir);
      return cwd.dev === folder.dev && cwd.ino === folder.ino;
    } catch {
      const commandLine = readOrNull(`/proc/${pid}/cmdline`);
      return commandLine?.split('\0').includes(clusterDir) ?? true;
    }
  }
  if (process.platform === 'win32') return true;
  return psColumn(pid, 'command=')?.includes(clusterDir) ?? true;
}

function signalReaches(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function bootId(): string {
  return (readOrNull('/proc/sys/kernel/random/boot_id') ?? '').trim();
}

function psColumn(pid: number, column: string): string | null {
  try {
    return execFileSync('ps', ['-ww', '-o', column, '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    // `ps` answers with an error for a process that has just ended, or is not installed.
    return null;
  }
}

function readOrNull(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
