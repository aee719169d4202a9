/**
 * One process at a time may start, join or leave the embedded server of a folder. The lock is a
 * file that names its holder; a holder that died is found out by its process identity.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PurserError } from '../../core/errors.ts';
import { isAlive, processIdentity } from './processes.ts';

/** Longer than a first start on a slow disk, which is what a waiting process waits for. */
export const LOCK_WAIT_MS = 120_000;
const LOCK_POLL_MS = 20;
/** After this a burial is taken to be abandoned: its process died between two system calls. */
const BURIAL_STALE_MS = 10_000;

interface Holder {
  token: string;
  pid: number;
  identity: string;
}

/** Runs `work` while holding the lock; waits up to `waitMs` for another holder. */
export async function withStartLock<T>(
  lockFile: string,
  work: () => Promise<T>,
  waitMs = LOCK_WAIT_MS,
): Promise<T> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const release = tryStartLock(lockFile);
    if (release) {
      try {
        return await work();
      } finally {
        release();
      }
    }
    if (Date.now() > deadline) {
      const holder = readHolder(lockFile);
      throw new PurserError('dependency_down', {
        detail:
          `Process ${holder?.pid ?? 'unknown'} has been starting or stopping the embedded database ` +
          `for more than ${waitMs / 1000} s (lock ${lockFile}). End that process and start again, ` +
          'or set DATABASE_URL to a Postgres of your own.',
      });
    }
    await sleep(LOCK_POLL_MS);
  }
}

/**
 * Takes the lock if it is free or its holder is dead, and answers the function that frees it;
 * null when a live process holds it.
 */
export function tryStartLock(lockFile: string): (() => void) | null {
  const holder: Holder = {
    token: randomBytes(12).toString('hex'),
    pid: process.pid,
    identity: processIdentity(process.pid) ?? '',
  };
  const mine = `${lockFile}.new-${holder.token}`;
  writeFileSync(mine, JSON.stringify(holder), { flag: 'wx', mode: 0o644 });
  try {
    // A hard link appears with its content in one step: no reader ever sees half a lock.
    linkSync(mine, lockFile);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    buryDeadHolder(lockFile);
    return null;
  } finally {
    rmSync(mine, { force: true });
  }
  sweepBurials(lockFile);
  return () => {
    if (readHolder(lockFile)?.token === holder.token) rmSync(lockFile, { force: true });
  };
}

/**
 * Removes the lock of a dead process. Of several processes that find it dead exactly one may
 * unlink it, or the second would unlink the first one's new lock: the right belongs to whoever
 * creates the link named after the dead holder's token.
 */
function buryDeadHolder(lockFile: string): void {
  const holder = readHolder(lockFile);
  if (holder === null || isAlive(holder.pid, holder.identity)) return;
  const grave = `${lockFile}.dead-${holder.token}`;
  try {
    linkSync(lockFile, grave);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return;
    // EPERM: Linux links no file of another user (here: root's, in a folder that is ours).
    if (code !== 'EEXIST' && code !== 'EPERM') throw error;
    if (code === 'EEXIST' && ageMs(grave) < BURIAL_STALE_MS) return;
  }
  if (readHolder(lockFile)?.token === holder.token) rmSync(lockFile, { force: true });
}

function sweepBurials(lockFile: string): void {
  const folder = path.dirname(lockFile);
  const prefix = `${path.basename(lockFile)}.`;
  for (const name of readdirSync(folder)) {
    const file = path.join(folder, name);
    if (name.startsWith(prefix) && ageMs(file) > 6 * BURIAL_STALE_MS) rmSync(file, { force: true });
  }
}

function readHolder(lockFile: string): Holder | null {
  try {
    return JSON.parse(readFileSync(lockFile, 'utf8')) as Holder;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Age by ctime: a hard link shares the mtime of the file it was made from. */
function ageMs(file: string): number {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat ? Date.now() - stat.ctimeMs : 0;
}
