import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, expect, it } from '@jest/globals';
import type { RedisStore } from '../../src/core/ports.ts';
import { createTcpRedis } from '../../src/redis/tcpRedis.ts';
import { startFaultProxy } from '../support/faultProxy.ts';
import { mirrorRecord } from '../support/redisContract.ts';
import { collectLines } from '../support/redisLogger.ts';
import { freePort, type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { waitFor } from '../support/stack.ts';

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

describeWith('redis-server', 'Redis over TCP', (program) => {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  async function redisServer(settings: string[] = [], port?: number): Promise<RedisServer> {
    const server = await startRedisServer({
      program,
      settings,
      ...(port === undefined ? {} : { port }),
    });
    ends.push(() => server.stop());
    return server;
  }
  async function connect(url: string) {
    const { logger, lines } = collectLines();
    const store = await createTcpRedis({ url, logger });
    ends.push(() => store.close());
    return { store, lines };
  }
  const answers = (store: RedisStore) =>
    waitFor(
      () =>
        store.ping().then(
          () => true,
          () => false,
        ),
      'Redis to answer',
    );

  it('honours user, password and database number of the URL', async () => {
    const password = 'p@ss:w/r%d #1';
    const server = await redisServer(['--requirepass', password]);
    await server.wire.call('AUTH', password);
    await server.wire.call('ACL', 'SETUSER', 'ann', 'on', `>${password}`, '~*', '+@all');
    for (const user of ['', 'default', 'ann']) {
      const login = `${user}:${encodeURIComponent(password)}`;
      const { store } = await connect(`redis://${login}@127.0.0.1:${server.port}/3`);
      await store.writeMirror('u', mirrorRecord({ balance: 7 }));
      await server.wire.call('SELECT', 3);
      expect(await server.wire.call('HGET', 'credits:{u}', 'balance')).toBe('7');
      await server.wire.call('SELECT', 0);
      expect(await server.wire.call('EXISTS', 'credits:{u}')).toBe(0);
    }
  });

  it('starts with a wrong password, says so once, and shows no password', async () => {
    const server = await redisServer(['--requirepass', 'right-password']);
    const { store, lines } = await connect(`redis://:wrong-password@127.0.0.1:${server.port}`);
    await expect(store.ping()).rejects.toMatchObject({ code: 'dependency_down' });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/WRONGPASS/);
    expect(lines.join()).not.toMatch(/wrong-password/);
  });

  it('starts without a server, refuses at once, and connects when it comes', async () => {
    const port = await freePort();
    const { store, lines } = await connect(`redis://127.0.0.1:${port}`);
    await expect(store.writeMirror('early', mirrorRecord())).rejects.toMatchObject({
      code: 'dependency_down',
      message: expect.stringContaining(`127.0.0.1:${port}`),
    });
    const server = await redisServer([], port);
    await answers(store);
    // What was refused is not sent later: it would be old by then.
    expect(await server.wire.call('EXISTS', 'credits:{early}')).toBe(0);
    expect(lines.map((line) => line.split(':')[0])).toEqual(['warn', 'info']);
  });

  it('comes back after a restart, without scripts and data, and needs no failed call for it', async () => {
    const server = await redisServer();
    const { store } = await connect(server.url());
    await store.writeMirror('u', mirrorRecord());
    await server.kill();
    await expect(store.readMirror('u')).rejects.toMatchObject({ code: 'dependency_down' });
    await server.start();
    await answers(store);
    expect(await store.readMirror('u')).toBeNull();
    expect(await store.writeMirror('u', mirrorRecord())).toEqual({ outcome: 'applied' });
  });

  it('gives up a silent connection with all that waits on it, and opens another', async () => {
    const server = await redisServer();
    const { store, lines } = await connect(server.url());
    server.pause();
    const waiting = Promise.allSettled([
      store.readMirror('u'),
      store.writeMirror('u', mirrorRecord()),
      store.ping(),
    ]);
    expect((await waiting).map(({ status }) => status)).toEqual(Array(3).fill('rejected'));
    server.resume();
    await answers(store);
    expect(lines.some((line) => line.includes('silent'))).toBe(true);
  });

  it('gives up a server that accepts connections and never greets', async () => {
    const sockets = new Set<net.Socket>();
    const mute = net.createServer((socket) => void sockets.add(socket));
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
    const { port } = mute.address() as AddressInfo;
    const { store, lines } = await connect(`redis://:secret@127.0.0.1:${port}`);
    await expect(store.ping()).rejects.toMatchObject({ code: 'dependency_down' });
    await waitFor(() => sockets.size > 1, 'a second connection');
    expect(lines.some((line) => line.includes('no answer to the greeting'))).toBe(true);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => mute.close(resolve));
  });

  it('answers again after connections were reset in the middle of commands', async () => {
    const server = await redisServer();
    const proxy = await startFaultProxy({ port: server.port });
    ends.push(() => proxy.close());
    const { store } = await connect(proxy.through(server.url()));
    await store.writeMirror('u', mirrorRecord({ version: 1 }));
    for (let round = 2; round <= 6; round += 1) {
      proxy.setFault('cut_on_answer', 1);
      const record = mirrorRecord({ version: round });
      await expect(store.writeMirror('u', record)).rejects.toMatchObject({
        code: 'dependency_down',
      });
      await answers(store);
      // It had happened before the answer was lost; to do it again is no harm.
      expect(await store.writeMirror('u', record)).toEqual({ outcome: 'equal' });
    }
  });

  it('leaves a primary that has become a replica', async () => {
    const old = await redisServer();
    const primary = await redisServer();
    const proxy = await startFaultProxy({ port: old.port });
    ends.push(() => proxy.close());
    const { store } = await connect(proxy.through(old.url()));
    await store.writeMirror('u', mirrorRecord({ version: 1 }));
    await old.wire.call('REPLICAOF', '127.0.0.1', primary.port);
    const before = proxy.accepted;
    await expect(store.writeMirror('u', mirrorRecord({ version: 2 }))).rejects.toMatchObject({
      message: expect.stringContaining('READONLY'),
    });
    await waitFor(() => proxy.accepted > before, 'a new connection');
  });

  it('speaks TLS to rediss:// and refuses a certificate nobody vouches for', async () => {
    const server = await redisServer();
    const front = tls.createServer(
      { key: readFileSync(fixture('tls-key.pem')), cert: readFileSync(fixture('tls-cert.pem')) },
      (socket) => {
        const upstream = net.connect(server.port, '127.0.0.1');
        socket.pipe(upstream).pipe(socket);
        socket.on('error', () => upstream.destroy());
        upstream.on('error', () => socket.destroy());
      },
    );
    await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
    const { port } = front.address() as AddressInfo;
    ends.push(() => new Promise((resolve) => front.close(resolve)));

    const { lines } = await connect(`rediss://localhost:${port}`);
    expect(lines[0]).toMatch(/self-signed certificate/i);

    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', fixture('pingRedis.ts'), `rediss://localhost:${port}/1`],
      { env: { ...process.env, NODE_EXTRA_CA_CERTS: fixture('tls-cert.pem') } },
    );
    expect(stdout).toBe('applied\n');
    await server.wire.call('SELECT', 1);
    expect(await server.wire.call('HGET', 'credits:{tls}', 'balance')).toBe('50');
  });
});
