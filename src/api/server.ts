import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Express } from 'express';
import { type SettingProblem, SettingsError } from '../config/settingsError.ts';
import type { Logger } from '../core/ports.ts';
import type { Lifecycle } from './lifecycle.ts';

/** A client that is slower than these is cut off, so that it cannot hold a connection for ever. */
const REQUEST_TIMEOUT_MS = 30_000;
const HEADERS_TIMEOUT_MS = 10_000;
/** Longer than the 60 s of common load balancers: they must be the ones who hang up. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
const HEADER_BYTES_MAX = 16 * 1024;

/** How long requests in flight may take to finish; then their connections are cut. */
export const DRAIN_TIMEOUT_MS = 10_000;
const DRAIN_POLL_MS = 25;

export interface RunningServer {
  readonly port: number;
  /** `http://host:port`, with a name browsers can open. */
  readonly url: string;
  /**
   * Stops for good: `/readyz` says so first, no new connections, requests in flight finish within
   * `DRAIN_TIMEOUT_MS`, then `closers` run one after the other. One that fails is logged and does
   * not keep the next from running. Calling it again waits for the same drain.
   */
  drain(): Promise<void>;
}

export interface ListenOptions {
  host: string;
  /** 0 = any free port. */
  port: number;
  lifecycle: Lifecycle;
  logger: Logger;
  /** What to stop after the last request, in order: jobs, background work, stores, database. */
  closers?: readonly { name: string; close: () => Promise<void> }[];
  drainTimeoutMs?: number;
}

/** An address that cannot be had is a setting to correct, told like every other wrong one. */
function explain(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const other = port >= 65_535 ? 3_000 : port + 1;
  const anyNetwork = 'Use 127.0.0.1 for this machine only, or 0.0.0.0 for every network.';
  const explained: Record<string, SettingProblem> = {
    EADDRINUSE: {
      variable: 'PORT',
      problem: `${port} on ${host} is in use by another program`,
      fix: `Stop that one, or take another port: PORT=${other} npm start (PORT=0 takes any free one).`,
    },
    EACCES: {
      variable: 'PORT',
      problem: `${port} needs rights this user does not have`,
      fix: 'Use a port from 1024 on, such as PORT=3000.',
    },
    EADDRNOTAVAIL: {
      variable: 'HOST',
      problem: `${host} is not an address of this machine`,
      fix: anyNetwork,
    },
    ENOTFOUND: { variable: 'HOST', problem: `${host} is not known`, fix: anyNetwork },
  };
  const problem = explained[error.code ?? ''];
  return problem === undefined ? error : new SettingsError([problem]);
}

/** A name for the address that a browser can open: nobody browses 0.0.0.0. */
function urlOf(host: string, port: number): string {
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}

/** Connections a client has opened and not said a word on, as browsers do in advance. */
function trackSilentConnections(server: Server): { close(): void } {
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  return {
    close() {
      for (const socket of open) if (socket.bytesRead === 0) socket.destroy();
    },
  };
}

async function finishRequests(
  server: Server,
  silent: { close(): void },
  timeoutMs: number,
): Promise<boolean> {
  let closed = false;
  const closing = new Promise<void>((resolve) => {
    server.close(() => {
      closed = true;
      resolve();
    });
  });
  // Node closes idle connections once, and takes one that never sent anything for busy; a browser
  // that connected in advance would hold up the drain to its end.
  const sweep = setInterval(() => {
    server.closeIdleConnections();
    silent.close();
  }, DRAIN_POLL_MS);
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([closing, timeout]);
  clearInterval(sweep);
  clearTimeout(timer);
  const inTime = closed;
  server.closeAllConnections();
  await closing;
  return inTime;
}

/** Errors: `SettingsError` when the address cannot be had. */
export async function listen(app: Express, options: ListenOptions): Promise<RunningServer> {
  const { host, port, lifecycle, logger, closers = [] } = options;
  const server = createServer(
    { maxHeaderSize: HEADER_BYTES_MAX, requestTimeout: REQUEST_TIMEOUT_MS },
    app,
  );
  const silent = trackSilentConnections(server);
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(explain(error, host, port)));
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;

  async function drainOnce(): Promise<void> {
    lifecycle.beginDrain();
    const inTime = await finishRequests(server, silent, options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS);
    if (!inTime) logger.warn('Requests still running at the end of the drain were cut off');
    for (const { name, close } of closers) {
      try {
        await close();
      } catch (error) {
        logger.error(`${name} did not stop cleanly`, { error });
      }
    }
  }

  let draining: Promise<void> | undefined;
  return {
    port: address.port,
    url: urlOf(host, address.port),
    drain() {
      draining ??= drainOnce();
      return draining;
    },
  };
}

/**
 * Runs `stop` on the first SIGTERM or SIGINT and then exits 0 (1 when it failed). A second signal
 * exits at once: whoever presses Ctrl-C twice means it.
 */
export function stopOnSignals(stop: () => Promise<void>, logger: Logger): void {
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping) {
        logger.warn(`${signal} again: exiting without waiting`);
        process.exit(1);
      }
      stopping = true;
      logger.info(`${signal}: finishing requests in flight`);
      stop().then(
        () => process.exit(0),
        (error: unknown) => {
          logger.error('Stopping failed', { error });
          process.exit(1);
        },
      );
    });
  }
}
