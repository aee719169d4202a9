import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ApiError, badRequest } from './errors.ts';

/** Of one request. */
const BODY_BYTES_MAX = 1024 * 1024;
const LOOPBACK_HOSTS = new Set(['127.0.0.1', 'localhost', '::1']);

export interface Request {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
export interface Answer {
  readonly status: number;
  /** The connection is cut instead of answering: a fault somebody asked for. */
  readonly lost?: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}
export type Handler = (request: Request) => Answer | Promise<Answer>;

export interface Listener {
  readonly server: Server;
  readonly port: number;
  close(): Promise<void>;
}

/** @throws when the host is not this machine: there is no real security in the sandbox. */
export function assertLoopback(host: string): void {
  if (LOOPBACK_HOSTS.has(host)) return;
  throw new Error(
    `The Stripe sandbox serves this machine only, not ${host}. Use host 127.0.0.1, localhost or ::1.`,
  );
}

/** Listens and answers with what `handler` returns at that moment. @throws EADDRINUSE */
export async function listen(host: string, port: number, handler: Handler): Promise<Listener> {
  assertLoopback(host);
  const server = createServer((request, response) => {
    void serve(request, response, handler);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return {
    server,
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function serve(
  incoming: IncomingMessage,
  response: ServerResponse,
  handler: Handler,
): Promise<void> {
  try {
    // A name that points here from elsewhere (DNS rebinding) must not reach the control API.
    const name = (incoming.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
    if (!LOOPBACK_HOSTS.has(name)) {
      throw new ApiError(403, {
        type: 'invalid_request_error',
        message: `The sandbox answers to 127.0.0.1 and localhost, not to ${name || 'no host'}.`,
      });
    }
    const body = await readBody(incoming);
    const [path = '/', query = ''] = splitOnce(incoming.url ?? '/', '?');
    const { method = 'GET', headers } = incoming;
    const answer = await handler({ method, path, query, headers, body });
    if (answer.lost) {
      incoming.socket.destroy();
      return;
    }
    response.writeHead(answer.status, answer.headers).end(method === 'HEAD' ? '' : answer.body);
  } catch (error) {
    if (response.headersSent || incoming.destroyed) return;
    const { status, body } =
      error instanceof ApiError ? error : badRequest('The request could not be read.');
    response
      .writeHead(status, { 'content-type': 'application/json', connection: 'close' })
      .end(JSON.stringify({ error: body }));
  }
}

/** Stops listening at the limit but keeps the connection, so that the refusal can be sent. */
function readBody(incoming: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    incoming.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= BODY_BYTES_MAX) {
        chunks.push(chunk);
        return;
      }
      incoming.removeAllListeners('data');
      incoming.resume();
      reject(
        new ApiError(413, {
          type: 'invalid_request_error',
          message: `The request body is larger than ${BODY_BYTES_MAX} bytes.`,
        }),
      );
    });
    incoming.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    incoming.on('error', reject);
    incoming.on('close', () => reject(new Error('The request was not sent to its end.')));
  });
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
