/**
 * The folder of the embedded database inside PURSER_DATA_DIR: what lies where, and who owns it.
 *
 *   postgres/state.json   where the cluster lies, the port it had last
 *   postgres/password     of the database role `postgres` (0600)
 *   postgres/users/       one file per process that uses the server
 *   postgres/start.lock   held while a process starts, joins or leaves
 *   postgres/server.log   what the server said since its last start
 *   <place>/cluster/      the data; <place> is `postgres/` itself, or a folder elsewhere when the
 *                         server's account cannot enter `postgres/` (a project under a 0700 home)
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { PurserError } from '../../core/errors.ts';
import { canReach, chooseServerAccount, ownerOf, type ServerAccount } from './account.ts';
import { isAlive, processIdentity } from './processes.ts';

export interface HomeState {
  /** Set when the cluster lies outside the home folder. */
  place?: string;
  /** Port of the last start; tried first, so that other tools can keep their address. */
  port?: number;
  /** True once a cluster exists: from then on an empty place means lost data, not a new start. */
  initialised?: boolean;
}

export interface Home {
  dir: string;
  lockFile: string;
  logFile: string;
  passwordFile: string;
  /** Folder that holds `cluster`, reachable by the server's account. */
  place: string;
  clusterDir: string;
  /** Account the server runs under; null = this process's own. */
  account: ServerAccount | null;
  /** Set when root works in another user's folder: new files are given to that user. */
  owner: { uid: number; gid: number } | null;
  state: HomeState;
}

/** Creates the folder on first use. Must not be called by two processes without the lock's file. */
export function prepareHomeFolder(dataDir: string): string {
  const isRoot = process.getuid?.() === 0;
  const absolute = path.resolve(dataDir, 'postgres');
  const owner = isRoot ? ownerOf(nearestExisting(absolute)) : null;
  // Root's folders must let the server's account pass through (never list); others need not.
  const first = mkdirSync(path.join(absolute, 'users'), {
    recursive: true,
    mode: isRoot ? 0o711 : 0o700,
  });
  if (first && owner && owner.uid !== 0) giveChain(first, path.join(absolute, 'users'), owner);
  const dir = realpathSync(absolute);
  const dirOwner = ownerOf(dir);
  if (!isRoot && dirOwner && dirOwner.uid !== process.getuid?.()) {
    throw new PurserError('dependency_down', {
      detail:
        `The embedded database in ${dir} belongs to user ${dirOwner.uid}, and this process runs as ` +
        `user ${process.getuid?.()}. Start Purser as that user, choose another PURSER_DATA_DIR, ` +
        'or set DATABASE_URL.',
    });
  }
  return dir;
}

/** Reads (and on the first start decides) where the cluster lies and who runs it. Needs the lock. */
export function openHome(dir: string): Home {
  const state = readState(dir);
  const dataDir = path.dirname(dir);
  const account = chooseServerAccount(path.join(state.place ?? dir, 'cluster'), dataDir);
  const dirOwner = ownerOf(dir);
  const owner = process.getuid?.() === 0 && dirOwner && dirOwner.uid !== 0 ? dirOwner : null;
  const home = {
    dir,
    lockFile: lockFileOf(dir),
    logFile: path.join(dir, 'server.log'),
    passwordFile: path.join(dir, 'password'),
    account,
    owner,
    state,
  };
  if (!state.place && account && !canReach(account, dir)) {
    state.place = createPlace(account);
    saveState({ ...home, place: state.place, clusterDir: '' });
  }
  const place = state.place ?? dir;
  return { ...home, place, clusterDir: path.join(place, 'cluster') };
}

export function lockFileOf(dir: string): string {
  return path.join(dir, 'start.lock');
}

export function saveState(home: Home): void {
  writeInHome(home, path.join(home.dir, 'state.json'), `${JSON.stringify(home.state, null, 2)}\n`);
}

/** The password of the database, made on first use; only the owner of the folder may read it. */
export function readOrCreatePassword(home: Home): string {
  try {
    return readFileSync(home.passwordFile, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  if (home.state.initialised) {
    throw new PurserError('dependency_down', {
      detail:
        `The password file ${home.passwordFile} of the embedded database is gone. Put it back, or ` +
        `move ${home.clusterDir} and ${path.join(home.dir, 'state.json')} away to begin with an ` +
        'empty database.',
    });
  }
  const password = randomBytes(24).toString('base64url');
  writeInHome(home, home.passwordFile, `${password}\n`);
  return password;
}

/** Registers this process as a user of the server; the answer is the file that says so. */
export function registerUser(home: Home): string {
  const name = `${process.pid}-${randomBytes(6).toString('hex')}`;
  const file = path.join(home.dir, 'users', name);
  writeInHome(home, file, processIdentity(process.pid) ?? '');
  return file;
}

/** Pids of the live processes that use the server; files of dead ones are removed. */
export function liveUsers(dir: string): number[] {
  const folder = path.join(dir, 'users');
  const live: number[] = [];
  for (const name of readdirSync(folder)) {
    const file = path.join(folder, name);
    const pid = Number.parseInt(name, 10);
    // Files appear by rename: one without its number is a draft and means nothing yet.
    if (!/^\d+-[0-9a-f]+$/.test(name)) continue;
    if (isAlive(pid, readFileSync(file, 'utf8'))) live.push(pid);
    else rmSync(file, { force: true });
  }
  return live;
}

/**
 * A folder the server's account can enter, for a project it cannot. The name is unpredictable and
 * the parent is root's or sticky, so no local user can put programs there beforehand.
 */
function createPlace(account: ServerAccount): string {
  const tried: string[] = [];
  for (const base of ['/var/lib/purser', '/var/tmp', os.tmpdir()]) {
    tried.push(base);
    try {
      if (base === '/var/lib/purser') mkdirSync(base, { recursive: true, mode: 0o711 });
      const stat = lstatSync(base);
      const guarded = (stat.mode & 0o022) === 0 || (stat.mode & 0o1000) !== 0;
      if (!stat.isDirectory() || stat.uid !== 0 || !guarded) continue;
      const place = mkdtempSync(path.join(base, 'pg-'));
      chmodSync(place, 0o711);
      if (canReach(account, place)) return place;
      rmSync(place, { recursive: true });
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'EACCES' && code !== 'EROFS' && code !== 'ENOENT' && code !== 'EPERM')
        throw error;
    }
  }
  throw new PurserError('dependency_down', {
    detail:
      `The account "${account.name}" that runs the embedded database cannot enter the data folder, ` +
      `and no folder for it could be made in ${tried.join(', ')}. Set PURSER_DATA_DIR to a folder ` +
      'every user may enter, start Purser as another user than root, or set DATABASE_URL.',
  });
}

function readState(dir: string): HomeState {
  const file = path.join(dir, 'state.json');
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as HomeState;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new PurserError('dependency_down', {
      detail: `The file ${file} of the embedded database cannot be read: ${(error as Error).message}`,
      cause: error,
    });
  }
}

/** Writes a private file so that it appears complete or not at all. */
function writeInHome(home: Home, file: string, text: string): void {
  const draft = `${file}.${randomBytes(6).toString('hex')}.draft`;
  writeFileSync(draft, text, { flag: 'wx', mode: 0o600 });
  if (home.owner) chownSync(draft, home.owner.uid, home.owner.gid);
  renameSync(draft, file);
}

function nearestExisting(folder: string): string {
  let candidate = folder;
  while (ownerOf(candidate) === null && path.dirname(candidate) !== candidate) {
    candidate = path.dirname(candidate);
  }
  return candidate;
}

function giveChain(first: string, last: string, owner: { uid: number; gid: number }): void {
  for (let folder = last; folder.length >= first.length; folder = path.dirname(folder)) {
    chownSync(folder, owner.uid, owner.gid);
  }
}
