/** A TCP proxy in front of a database, with the faults a network has. */

import type { AddressInfo } from 'node:net';
import net from 'node:net';

/**
 * - `pass`: bytes flow.
 * - `refuse`: new connections are reset before a byte flows.
 * - `cut_on_request`: the next bytes to the server end the connection and never arrive.
 * - `cut_on_answer`: bytes to the server flow; the next bytes it answers end the connection
 *   unseen, so the statement has happened and nobody heard.
 * - `black_hole`: what the server answers is swallowed, the connection stays open.
 */
export type ProxyMode = 'pass' | 'refuse' | 'cut_on_request' | 'cut_on_answer' | 'black_hole';

export interface FaultProxy {
  port: number;
  /** The same connection string through the proxy. */
  through(connectionString: string): string;
  setMode(mode: ProxyMode): void;
  /** Faults to come before the proxy passes again by itself; infinite by default. */
  setFault(mode: ProxyMode, times: number): void;
  /** Every answer waits this long. */
  setDelay(ms: number): void;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** Faults that happened so far. */
  readonly faults: number;
  /** Resets every open connection. */
  cutAll(): void;
  close(): Promise<void>;
}

export async function startFaultProxy(target: {
  port: number;
  host?: string;
}): Promise<FaultProxy> {
  let mode: ProxyMode = 'pass';
  let faultsLeft = Number.POSITIVE_INFINITY;
  let delayMs = 0;
  let accepted = 0;
  let faults = 0;
  const open = new Set<net.Socket>();

  /** Uses up one fault; the last one switches back to `pass`. */
  const spend = () => {
    faults += 1;
    faultsLeft -= 1;
    if (faultsLeft <= 0) mode = 'pass';
  };
  const track = (socket: net.Socket) => {
    open.add(socket);
    socket.on('error', () => {
      // Resets are what this proxy is for.
    });
    socket.once('close', () => open.delete(socket));
  };

  const server = net.createServer((client) => {
    track(client);
    accepted += 1;
    if (mode === 'refuse') {
      spend();
      client.resetAndDestroy();
      return;
    }
    const upstream = net.connect(target.port, target.host ?? '127.0.0.1');
    track(upstream);
    client.on('data', (chunk) => {
      if (mode === 'cut_on_request') {
        spend();
        client.resetAndDestroy();
        upstream.destroy();
        return;
      }
      upstream.write(chunk);
    });
    upstream.on('data', (chunk) => {
      if (mode === 'black_hole') return;
      if (mode === 'cut_on_answer') {
        spend();
        client.resetAndDestroy();
        upstream.destroy();
        return;
      }
      if (delayMs === 0) client.write(chunk);
      else setTimeout(() => client.destroyed || client.write(chunk), delayMs);
    });
    client.once('close', () => upstream.end());
    upstream.once('close', () => client.end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;

  return {
    port,
    through(connectionString) {
      const url = new URL(connectionString);
      url.hostname = '127.0.0.1';
      url.port = String(port);
      return url.toString();
    },
    setMode(next) {
      mode = next;
      faultsLeft = Number.POSITIVE_INFINITY;
    },
    setFault(next, times) {
      mode = next;
      faultsLeft = times;
    },
    setDelay(ms) {
      delayMs = ms;
    },
    get accepted() {
      return accepted;
    },
    get faults() {
      return faults;
    },
    cutAll() {
      for (const socket of open) socket.resetAndDestroy();
    },
    close() {
      for (const socket of open) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
