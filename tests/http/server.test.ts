import { connect } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { type ListenOptions, listen, type RunningServer } from '../../src/api/server.ts';
import { type TestAppOptions, testApp } from './support/testApp.ts';

const running: RunningServer[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.drain()));
});

async function start(options: TestAppOptions = {}, extra: Partial<ListenOptions> = {}) {
  const test = testApp(options);
  const { lifecycle, logger } = test.deps;
  const server = await listen(test.app, {
    host: '127.0.0.1',
    port: 0,
    lifecycle,
    logger,
    ...extra,
  });
  running.push(server);
  return { ...test, server };
}

describe('a server', () => {
  it('takes a free port and tells where it listens', async () => {
    const { server } = await start();
    expect(server.url).toBe(`http://127.0.0.1:${server.port}`);
    const response = await fetch(`${server.url}/healthz`);
    expect(response.status).toBe(200);
  });

  it('says what to do when its port is taken', async () => {
    const { server } = await start();
    await expect(start({}, { port: server.port })).rejects.toThrow(
      new RegExp(
        `PORT {2}${server.port} on 127.0.0.1 is in use.*\\n.*PORT=${server.port + 1} npm start`,
      ),
    );
  });

  it('says what to do when its address is not there', async () => {
    await expect(start({}, { host: '203.0.113.1' })).rejects.toThrow(
      /HOST {2}203.0.113.1 is not an address of this machine/,
    );
  });

  it('refuses headers above 16 KB', async () => {
    const { server } = await start();
    const response = await fetch(`${server.url}/healthz`, {
      headers: { 'x-large': 'x'.repeat(17_000) },
    });
    expect(response.status).toBe(431);
  });

  it('finishes what is in flight, takes nothing new, then closes its parts in order', async () => {
    let answer: () => void = () => {};
    let begun: () => void = () => {};
    const inFlight = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const order: string[] = [];
    const closer = (name: string, failure?: Error) => ({
      name,
      close: async () => {
        order.push(name);
        if (failure) throw failure;
      },
    });
    const { server, log } = await start(
      {
        checkout: {
          async pricing() {
            begun();
            await new Promise<void>((resolve) => {
              answer = resolve;
            });
            order.push('answered');
            return { mode: 'local', currency: 'usd', packs: [], plans: [], as_of: '' };
          },
        },
      },
      { closers: [closer('jobs'), closer('redis', new Error('no')), closer('database')] },
    );
    // Leaves a second connection behind, idle and kept alive.
    await (await fetch(`${server.url}/readyz`)).text();
    const slow = fetch(`${server.url}/api/pricing`);
    await inFlight;
    const drained = server.drain();
    expect(server.drain()).toBe(drained);
    await expect(fetch(`${server.url}/readyz`)).rejects.toThrow();
    answer();
    expect((await slow).status).toBe(200);
    await drained;
    expect(order).toEqual(['answered', 'jobs', 'redis', 'database']);
    expect(log()).toContain('redis did not stop cleanly');
  });

  it('cuts off what does not finish in time', async () => {
    let begun: () => void = () => {};
    const inFlight = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const { server, log } = await start(
      {
        checkout: {
          pricing() {
            begun();
            return new Promise(() => {});
          },
        },
      },
      { drainTimeoutMs: 50 },
    );
    const hanging = fetch(`${server.url}/api/pricing`);
    hanging.catch(() => undefined);
    await inFlight;
    await server.drain();
    await expect(hanging).rejects.toThrow();
    expect(log()).toContain('cut off');
  });

  it('does not wait for connections that send nothing', async () => {
    const { server } = await start({}, { drainTimeoutMs: 60_000 });
    const socket = connect(server.port, '127.0.0.1');
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    await server.drain();
    await closed;
  });

  it('answers a broken request line with 400 and goes on', async () => {
    const { server } = await start();
    const socket = connect(server.port, '127.0.0.1');
    socket.write('GET / HTTP/9.9\r\n\r\n');
    const text = await new Promise<string>((resolve) =>
      socket.once('data', (data) => resolve(String(data))),
    );
    expect(text).toContain('400');
    socket.destroy();
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });
});
