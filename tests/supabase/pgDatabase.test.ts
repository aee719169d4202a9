import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Database } from '../../src/core/ports.ts';
import { createPgDatabase, type PgDatabaseOptions } from '../../src/supabase/pgDatabase.ts';
import { type FaultProxy, startFaultProxy } from '../support/faultProxy.ts';
import { clusterUrl, testDatabase } from '../support/postgres.ts';
import { failureOf, RPC_FIXTURES } from '../support/rpcFixtures.ts';

const database = testDatabase();
const opened: Database[] = [];
let proxy: FaultProxy;

function open(options: Partial<PgDatabaseOptions> = {}): Database {
  const opening = createPgDatabase({
    connectionString: database.current.connectionString,
    ...options,
    deps: { random: () => 0.5, ...options.deps },
  });
  opened.push(opening);
  return opening;
}

beforeAll(async () => {
  await database.current.query(RPC_FIXTURES);
  proxy = await startFaultProxy({ port: Number(new URL(clusterUrl()).port) });
});
afterAll(async () => {
  await Promise.all(opened.map((database) => database.close()));
  await proxy.close();
});

describe('arguments and answers', () => {
  it('bounds the call in the server and leaves nothing set in the session', async () => {
    const db = open({ poolMax: 1, statementTimeoutMs: 4_000, lockTimeoutMs: 2_000 });
    expect(await db.rpc('t_settings')).toEqual({ statement: '4s', lock: '2s', zone: 'UTC' });
    expect(await db.rpc('t_settings', {}, { timeoutMs: 1_500 })).toEqual({
      statement: '1500ms',
      lock: '1500ms',
      zone: 'UTC',
    });
    await database.current.query(`create function public.t_session() returns jsonb language sql as
      $$ select to_jsonb(count(*)) from pg_prepared_statements $$`);
    expect(await db.rpc('t_session')).toBe(0);
  });
});

describe('errors by code', () => {
  it('says which setting to look at when the server refuses the user', async () => {
    const url = new URL(database.current.connectionString);
    url.password = 'wrong';
    const error = await failureOf(open({ connectionString: url.toString() }).rpc('t_echo'));
    expect(error.code).toBe('dependency_down');
    expect(error.message).toContain('DATABASE_URL');
    expect(error.message).not.toContain('wrong');
  });

  it('rejects an address that is no Postgres URL without printing it', () => {
    for (const connectionString of ['secret@host', 'https://u:secret@host/db']) {
      expect(() => createPgDatabase({ connectionString })).toThrow(/DATABASE_URL is not valid/);
      expect(() => createPgDatabase({ connectionString })).not.toThrow(/secret/);
    }
  });
});

describe('repeats', () => {
  it('repeats when the connection was refused before anything was sent', async () => {
    const connectionString = proxy.through(database.current.connectionString);
    proxy.setFault('refuse', 2);
    const db = open({ connectionString, poolMax: 1 });
    const before = proxy.accepted;
    expect(await db.rpc('t_note', { p_note: 'after refusal' }, { idempotent: false })).toEqual({
      outcome: 'applied',
    });
    expect(proxy.accepted - before).toBe(3);
  });

  it('answers dependency_down when nobody listens', async () => {
    const db = open({
      connectionString: 'postgresql://u:p@127.0.0.1:1/db',
      deps: { sleep: async () => undefined },
    });
    const error = await failureOf(db.rpc('t_echo'));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    await expect(db.ping()).rejects.toMatchObject({ code: 'dependency_down' });
  });
});

describe('a server that says farewell in the packet that ends the handshake', () => {
  it('is an unreachable database, and not the end of the process', async () => {
    const message = (type: string, body: string) => {
      const length = Buffer.alloc(4);
      length.writeInt32BE(4 + body.length);
      return Buffer.concat([Buffer.from(type), length, Buffer.from(body)]);
    };
    const fatal = ['SFATAL', 'VFATAL', 'C57P01', 'Mterminating connection', ''].join('\0');
    const farewell = [message('R', '\0\0\0\0'), message('Z', 'I'), message('E', `${fatal}\0`)];
    const server = createServer((socket) => {
      socket.once('data', () => socket.end(Buffer.concat(farewell)));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      const db = open({
        connectionString: `postgresql://u:p@127.0.0.1:${port}/db?sslmode=disable`,
        deps: { sleep: async () => undefined },
      });
      expect(await failureOf(db.rpc('t_echo'))).toMatchObject({ code: 'dependency_down' });
    } finally {
      server.close();
    }
  });
});

describe('an answer that is lost', () => {
  async function throughProxy() {
    proxy.setMode('pass');
    await database.current.query('truncate log');
    const connectionString = proxy.through(database.current.connectionString);
    const db = open({ connectionString, poolMax: 1 });
    await db.ping();
    return db;
  }

  it('ends in an error, not in waiting, when the network swallows it', async () => {
    const db = await throughProxy();
    proxy.setMode('black_hole');
    const options = { idempotent: false, timeoutMs: 50 };
    expect((await failureOf(db.rpc('t_note', { p_note: 'hole' }, options))).code).toBe(
      'dependency_down',
    );
    proxy.setMode('pass');
    expect(await db.rpc('t_echo', { p_text: 'well again' })).toMatchObject({ text: 'well again' });
  });

  it('does not end the process when connections die in the pool and under a call', async () => {
    const db = await throughProxy();
    const slow = failureOf(db.rpc('t_sleep', { p_seconds: 5 }, { idempotent: false }));
    await waitUntilRunning('t_sleep');
    await database.current.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
          and application_name = 'purser'`,
    );
    expect((await slow).code).toBe('dependency_down');
    expect(await db.rpc('t_echo', { p_text: 'on a new one' })).toMatchObject({
      text: 'on a new one',
    });
    proxy.cutAll();
    expect(await db.rpc('t_echo', { p_text: 'and another' })).toMatchObject({
      text: 'and another',
    });
  });
});

async function waitUntilRunning(functionName: string): Promise<void> {
  for (;;) {
    const rows = await database.current.query(
      `select 1 from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()
          and datname = current_database() and query like '%' || $1 || '%'`,
      [functionName],
    );
    if (rows.length > 0) return;
  }
}

describe('bounds', () => {
  it('ends a statement that runs too long, in the server', async () => {
    const error = await failureOf(open().rpc('t_sleep', { p_seconds: 30 }, { timeoutMs: 100 }));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect((error.cause as pg.DatabaseError).code).toBe('57014');
  });

  it('waits for a lock only so long, repeats, and then says so', async () => {
    const holder = new pg.Client({ connectionString: database.current.connectionString });
    await holder.connect();
    try {
      await holder.query('select pg_advisory_lock(42)');
      const db = open({ lockTimeoutMs: 50, retry: { attemptsMax: 2 } });
      const error = await failureOf(db.rpc('t_lock', { p_key: 42 }));
      expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
      expect(error.message).toContain('55P03');
    } finally {
      await holder.end();
    }
  });

  it('answers dependency_down when every connection stays busy', async () => {
    const db = open({ poolMax: 1, acquireTimeoutMs: 100 });
    await db.ping();
    const slow = db.rpc('t_sleep', { p_seconds: 1 });
    const error = await failureOf(db.rpc('t_echo'));
    expect(error).toMatchObject({ code: 'dependency_down', retryAfterSeconds: 1 });
    expect(error.message).toContain('busy');
    await slow;
  });
});
