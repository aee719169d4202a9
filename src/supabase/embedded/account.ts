/**
 * Postgres refuses to run as root. Started as root (a container, a bare server), Purser runs it
 * under an account that exists already: it never adds one.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { PurserError } from '../../core/errors.ts';

export interface ServerAccount {
  name: string;
  uid: number;
  gid: number;
}

/**
 * The account that runs the server, or null when this process runs it as itself. An existing
 * cluster keeps its owner; else the owner of the project folder, so that `sudo npm start` leaves
 * files the user can go on with; else `postgres`, else `nobody`.
 */
export function chooseServerAccount(clusterDir: string, dataDir: string): ServerAccount | null {
  if (process.getuid?.() !== 0) return null;
  const accounts = readAccounts();
  const owner = ownerOf(clusterDir);
  if (owner !== null && owner.uid !== 0) {
    return (
      accounts.find((account) => account.uid === owner.uid) ?? {
        name: `uid ${owner.uid}`,
        ...owner,
      }
    );
  }
  const projectOwner = ownerOf(dataDir) ?? ownerOf(path.dirname(dataDir));
  const chosen =
    accounts.find((account) => account.uid !== 0 && account.uid === projectOwner?.uid) ??
    accounts.find((account) => account.name === 'postgres') ??
    accounts.find((account) => account.name === 'nobody') ??
    accounts.find((account) => account.uid !== 0);
  if (chosen) return chosen;
  throw new PurserError('dependency_down', {
    detail:
      'The embedded database cannot run as root and /etc/passwd names no other account. ' +
      'Start Purser as another user, or set DATABASE_URL to a Postgres of your own.',
  });
}

/** True when the account can enter the folder (and execute the file, if one is named). */
export function canReach(account: ServerAccount, folder: string, executable?: string): boolean {
  const script = executable ? 'cd "$1" && test -x "$2"' : 'cd "$1"';
  try {
    execFileSync('/bin/sh', ['-c', script, 'sh', folder, ...(executable ? [executable] : [])], {
      uid: account.uid,
      gid: account.gid,
      cwd: '/',
      stdio: 'ignore',
    });
    return true;
  } catch {
    return false;
  }
}

/** Owner of a file or folder; null when it does not exist. */
export function ownerOf(file: string): { uid: number; gid: number } | null {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat ? { uid: stat.uid, gid: stat.gid } : null;
}

function readAccounts(): ServerAccount[] {
  return readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length > 3)
    .map((fields) => ({ name: fields[0] ?? '', uid: Number(fields[2]), gid: Number(fields[3]) }));
}
