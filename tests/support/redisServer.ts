/** A real redis-server for a test file: a free port, a folder of its own, nothing else's data. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import { connectWire, type RedisWire } from './redisWire.ts';
import { createTempFolder } from './tempFolder.ts';

export interface RedisServerOptions {
  /** Path of the program, as `describeWith('redis-server', ...)` hands it in. */
  program: string;
  /** Further settings: `['--requirepass', 'secret']`. */
  settings?: string[];
  /** Left out: a free one. */
  port?: number;
}

export interface RedisServer {
  readonly port: number;
  readonly pid: number;
  readonly dir: string;
  /** `redis://127.0.0.1:<port>/<database>` */
  url(database?: number): string;
  /** Another client, connected to database 0. */
  wire: RedisWire;
  /** Freezes the process: connections stay open, nothing is answered. */
  pause(): void;
  resume(): void;
  /** Kills it as power loss would: nothing is saved. */
  kill(): Promise<void>;
  /** Starts it anew on the same port and folder, after `kill`. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedisServer(options: RedisServerOptions): Promise<RedisServer> {
  const folder = createTempFolder('test-redis');
  const port = options.port ?? (await freePort());
  let child: ChildProcess;
  let wire: RedisWire;

  async function start(): Promise<void> {
    const settings = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder.dir];
    const quiet = ['--save', '', '--appendonly', 'no', '--repl-diskless-sync-delay', '0'];
    child = spawn(options.program, [...settings, ...quiet, ...(options.settings ?? [])], {
      stdio: 'ignore',
    });
    const started = child;
    process.once('exit', () => started.kill('SIGKILL'));
    wire = await connectWhenUp(port);
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    wire.close();
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    // A frozen process takes no signal but these.
    child.kill('SIGCONT');
    await gone;
  }

  await start();
  return {
    port,
    dir: folder.dir,
    get pid() {
      return child.pid ?? 0;
    },
    get wire() {
      return wire;
    },
    url: (database = 0) => `redis://127.0.0.1:${port}/${database}`,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    kill: () => end('SIGKILL'),
    start,
    async stop() {
      await end('SIGKILL');
      folder.remove();
    },
  };
}

export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const START_ATTEMPTS = 200;

async function connectWhenUp(port: number): Promise<RedisWire> {
  for (let attempt = 1; ; attempt += 1) {
    let wire: RedisWire | undefined;
    try {
      wire = await connectWire(port);
      await wire.call('PING');
      return wire;
    } catch (error) {
      wire?.close();
      // It asks for a password: it is up.
      if (error instanceof Error && /NOAUTH/.test(error.message)) return connectWire(port);
      if (attempt === START_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
