import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from '@jest/globals';
import { PurserError } from '../../src/core/errors.ts';
import {
  findBinaries,
  placeBinaries,
  restoreSymlinks,
} from '../../src/supabase/embedded/binaries.ts';
import { liveUsers, prepareHomeFolder } from '../../src/supabase/embedded/home.ts';
import { isAlive, processIdentity } from '../../src/supabase/embedded/processes.ts';
import { tryStartLock, withStartLock } from '../../src/supabase/embedded/startLock.ts';
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { createEmbeddedFolder, type EmbeddedFolder } from '../support/embeddedFolder.ts';
import { describeWith } from '../support/requirements.ts';
import { createTempFolder } from '../support/tempFolder.ts';

const NOBODY = { name: 'nobody', uid: 65534, gid: 65534 };
const folders: EmbeddedFolder[] = [];

function newFolder(inside?: string) {
  const folder = createEmbeddedFolder(inside);
  folders.push(folder);
  return folder;
}

async function failureOf(promise: Promise<unknown>): Promise<PurserError> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (error instanceof PurserError) return error;
  throw error;
}

afterEach(async () => {
  for (const folder of folders.splice(0)) await folder.remove();
});

describe('a start that fails', () => {
  it('reports the words of the server and what to do, and leaves nothing running', async () => {
    const folder = newFolder();
    const first = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    await first.stop();
    appendFileSync(path.join(first.clusterDir, 'postgresql.conf'), '\nno_such_setting = 1\n');
    const error = await failureOf(startEmbeddedPostgres({ dataDir: folder.dataDir }));
    expect(error.code).toBe('dependency_down');
    expect(error.message).toContain('no_such_setting');
    expect(error.message).toContain('DATABASE_URL');
    expect(folder.serverPid()).toBeNull();
    expect(folder.leftovers()).toEqual([]);
  });

  it('names DATABASE_URL where the platform has no programs', async () => {
    const folder = newFolder();
    const error = await failureOf(
      startEmbeddedPostgres({ dataDir: folder.dataDir, packageName: 'embedded-postgres-none' }),
    );
    expect(error.code).toBe('dependency_down');
    expect(error.message).toMatch(/has no Postgres programs for .*DATABASE_URL/);
  });

  it('names the folder it cannot use', async () => {
    const folder = newFolder();
    const file = path.join(folder.dataDir, 'a-file');
    writeFileSync(file, '');
    const error = await failureOf(startEmbeddedPostgres({ dataDir: path.join(file, 'data') }));
    expect(error.code).toBe('dependency_down');
    expect(error.message).toContain(file);
    expect(error.message).toContain('PURSER_DATA_DIR');
  });

  it('refuses the data of another major version', async () => {
    const folder = newFolder();
    const options = { dataDir: folder.dataDir, packageName: 'embedded-postgres-15' };
    const first = await startEmbeddedPostgres(options);
    await first.stop();
    const error = await failureOf(startEmbeddedPostgres({ dataDir: folder.dataDir }));
    expect(error.message).toMatch(/made by Postgres 15.*programs are Postgres 18/);
  });

  it('never begins anew in silence when data or password are gone', async () => {
    const folder = newFolder();
    const first = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    await first.stop();
    const passwordFile = path.join(folder.dataDir, 'postgres', 'password');
    const password = readFileSync(passwordFile, 'utf8');
    rmSync(passwordFile);
    const noPassword = await failureOf(startEmbeddedPostgres({ dataDir: folder.dataDir }));
    expect(noPassword.message).toContain(passwordFile);
    writeFileSync(passwordFile, 'another', { mode: 0o600 });
    const wrong = await failureOf(startEmbeddedPostgres({ dataDir: folder.dataDir }));
    expect(wrong.message).toContain(passwordFile);
    writeFileSync(passwordFile, password, { mode: 0o600 });
    renameSync(first.clusterDir, `${first.clusterDir}.away`);
    const noData = await failureOf(startEmbeddedPostgres({ dataDir: folder.dataDir }));
    expect(noData.message).toContain('is not there any more');
    renameSync(`${first.clusterDir}.away`, first.clusterDir);
    const again = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(again.created).toBe(false);
    await again.stop();
  });
});

describe('what an interrupted first start leaves', () => {
  it('is removed, and a folder that is no cluster is kept aside', async () => {
    const folder = newFolder();
    const home = prepareHomeFolder(folder.dataDir);
    mkdirSync(path.join(home, 'init-Ab3dEf', 'cluster'), { recursive: true });
    mkdirSync(path.join(home, 'cluster', 'base'), { recursive: true });
    writeFileSync(path.join(home, 'cluster', 'PG_VERSION'), '18\n');
    const server = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(server).toMatchObject({ how: 'started', created: true });
    await server.stop();
    const names = readdirSync(home);
    expect(names.filter((name) => name.startsWith('init-'))).toEqual([]);
    const [aside] = names.filter((name) => name.startsWith('cluster.incomplete-'));
    expect(readdirSync(path.join(home, aside ?? ''))).toContain('PG_VERSION');
  });
});

describeWith('root', 'started as root', () => {
  it('runs the server under another account and keeps the secrets to root', async () => {
    const folder = newFolder();
    const server = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(statSync(`/proc/${server.pid}`).uid).not.toBe(0);
    expect(statSync(server.clusterDir).uid).toBe(statSync(`/proc/${server.pid}`).uid);
    expect(statSync(path.join(folder.dataDir, 'postgres', 'password')).uid).toBe(0);
    const environment = readFileSync(`/proc/${server.pid}/environ`, 'utf8').split('\0');
    const names = environment.map((entry) => entry.split('=')[0]).filter((name) => name !== '');
    const allowed = ['PATH', 'LC_ALL', 'TZ', 'PG_GRANDPARENT_PID', 'PWD', 'PGLOCALEDIR'];
    expect(names.filter((name) => !allowed.includes(name ?? ''))).toEqual([]);
    await server.stop();
  });

  it('moves the data where the account can reach it, once, and finds it again', async () => {
    const folder = newFolder('private/project');
    mkdirSync(folder.dataDir, { recursive: true });
    chmodSync(path.join(folder.root, 'private'), 0o700);
    const first = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(first.clusterDir.startsWith(folder.root)).toBe(false);
    const place = path.dirname(first.clusterDir);
    expect(statSync(place).uid).toBe(0);
    expect(statSync(place).mode & 0o777).toBe(0o711);
    await first.stop();
    const second = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(second).toMatchObject({ created: false, clusterDir: first.clusterDir });
    await second.stop();
    expect(existsSync(path.join(folder.dataDir, 'postgres', 'cluster'))).toBe(false);
  });

  it("works in another user's folder and leaves the files to that user", async () => {
    const folder = newFolder('theirs');
    mkdirSync(folder.dataDir);
    chownSync(folder.dataDir, NOBODY.uid, NOBODY.gid);
    const ours = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    await ours.stop();
    expect(statSync(path.join(folder.dataDir, 'postgres', 'password')).uid).toBe(NOBODY.uid);
    const child = folder.spawnChild('hold', NOBODY);
    expect(await child.started).toMatchObject({ how: 'started', created: false });
    expect(await child.end('SIGINT')).toBe(0);
    expect(folder.leftovers()).toEqual([]);
  });

  it('runs as an ordinary user too, from an empty folder', async () => {
    const folder = newFolder();
    chownSync(folder.root, NOBODY.uid, NOBODY.gid);
    const child = folder.spawnChild('hold', NOBODY);
    const server = await child.started;
    expect(server).toMatchObject({ how: 'started', created: true });
    expect(statSync(`/proc/${server.pid}`).uid).toBe(NOBODY.uid);
    expect(await child.end('SIGTERM')).toBe(0);
    expect(folder.serverPid()).toBeNull();
    expect(folder.leftovers()).toEqual([]);
  });

  it('tells an ordinary user whose folder it is', async () => {
    const folder = newFolder();
    prepareHomeFolder(folder.dataDir);
    const child = folder.spawnChild('hold', NOBODY);
    await expect(child.started).rejects.toThrow(/belongs to user 0.*DATABASE_URL/s);
  });
});

describe('the programs', () => {
  it('get their library links back when no install script ran', () => {
    const folder = createTempFolder('programs');
    try {
      const twin = placeBinaries(findBinaries(), folder.dir);
      const link = path.join(twin.native, 'lib', 'libicuuc.so.60');
      expect(existsSync(link)).toBe(true);
      rmSync(link);
      // The links are listed relative to a package that holds them in `native`.
      renameSync(twin.native, path.join(folder.dir, 'native'));
      const native = path.join(folder.dir, 'native');
      expect(restoreSymlinks(native)).toBe(true);
      expect(existsSync(path.join(native, 'lib', 'libicuuc.so.60'))).toBe(true);
    } finally {
      folder.remove();
    }
  });
});

describe('the start lock', () => {
  it('is taken from a dead holder and never from a live one', async () => {
    const folder = createTempFolder('lock');
    const lockFile = path.join(folder.dir, 'start.lock');
    try {
      const dead = { token: 'f00', pid: process.pid, identity: 'another-boot:1' };
      writeFileSync(lockFile, JSON.stringify(dead));
      await withStartLock(lockFile, async () => {
        expect(tryStartLock(lockFile)).toBeNull();
        expect(await failureOf(withStartLock(lockFile, async () => 1, 50))).toMatchObject({
          code: 'dependency_down',
        });
      });
      expect(existsSync(lockFile)).toBe(false);
    } finally {
      folder.remove();
    }
  });

  it('lets one at a time in, beginning with a dead holder', async () => {
    const folder = createTempFolder('lock');
    const lockFile = path.join(folder.dir, 'start.lock');
    let inside = 0;
    let most = 0;
    try {
      writeFileSync(lockFile, JSON.stringify({ token: 'f00', pid: 2_147_483_646, identity: 'x' }));
      await Promise.all(
        Array.from({ length: 8 }, () =>
          withStartLock(lockFile, async () => {
            inside += 1;
            most = Math.max(most, inside);
            await new Promise((resolve) => setTimeout(resolve, 2));
            inside -= 1;
          }),
        ),
      );
      expect(most).toBe(1);
    } finally {
      folder.remove();
    }
  });
});

describe('process identities', () => {
  it('tell a process from a later one with the same number', () => {
    const identity = processIdentity(process.pid) ?? '';
    expect(isAlive(process.pid, identity)).toBe(true);
    expect(isAlive(process.pid, 'another-boot:1')).toBe(false);
    expect(processIdentity(2_147_483_646)).toBeNull();
  });

  it('forget the users of a server that are dead', () => {
    const folder = createTempFolder('users');
    try {
      const home = prepareHomeFolder(folder.dir);
      const users = path.join(home, 'users');
      writeFileSync(path.join(users, `${process.pid}-aa`), processIdentity(process.pid) ?? '');
      writeFileSync(path.join(users, `${process.pid}-bb`), 'another-boot:1');
      writeFileSync(path.join(users, '2147483646-cc'), 'x');
      expect(liveUsers(home)).toEqual([process.pid]);
      expect(readdirSync(users)).toEqual([`${process.pid}-aa`]);
    } finally {
      folder.remove();
    }
  });
});
