/**
 * Upstash's REST API in front of a real redis-server, as its documentation describes the wire:
 * `POST /`, path commands, `/pipeline`, `/multi-exec`, bearer or `_token`, base64 on request, 400
 * with the error's text, sync token. And the faults a network has.
 */
import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { connectWire, type RedisWire, WireError, type WireReply } from './redisWire.ts';

/**
 * - `drop_reply`: executes, then closes the connection without an answer.
 * - `refuse`: closes the connection before anything happens.
 * - `html`: a gateway's page with status 502.
 * - `hang`: never answers.
 */
export type UpstashFault = 'drop_reply' | 'refuse' | 'html' | 'hang';

export interface SeenRequest {
  path: string;
  headers: http.IncomingHttpHeaders;
  /** The commands it carried. */
  commands: string[][];
}

export interface UpstashServer {
  url: string;
  token: string;
  /** Requests so far, in order of arrival. */
  requests: SeenRequest[];
  /** The next `times` requests meet the fault. */
  setFault(fault: UpstashFault, times?: number): void;
  clearFault(): void;
  /** Every answer waits this long. */
  setDelay(ms: number): void;
  close(): Promise<void>;
}

export interface UpstashServerOptions {
  redisPort: number;
  token?: string;
  /**
   * As Upstash: a script may begin with `#!lua flags=allow-key-locking`, and EVALSHA names the
   * digest of the text with that line. Without it the line is refused, as Redis does.
   */
  keyLocking?: boolean;
}

const KEY_LOCKING_LINE = '#!lua flags=allow-key-locking\n';

export async function startUpstashServer(options: UpstashServerOptions): Promise<UpstashServer> {
  const token = options.token ?? 'upstash-token-of-the-tests';
  const wire = await connectWire(options.redisPort);
  const translate = options.keyLocking ? createKeyLocking() : (command: string[]) => command;
  const requests: SeenRequest[] = [];
  let fault: UpstashFault | null = null;
  let faultsLeft = 0;
  let delayMs = 0;
  let writes = 0;

  function takeFault(): UpstashFault | null {
    if (fault === null || faultsLeft <= 0) return null;
    faultsLeft -= 1;
    return fault;
  }

  const server = http.createServer(async (request, response) => {
    const fate = takeFault();
    if (fate === 'refuse') {
      request.socket.destroy();
      return;
    }
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    const body = await readText(request);
    if (fate === 'html') {
      response.writeHead(502, { 'content-type': 'text/html' }).end('<html>Bad gateway</html>');
      return;
    }
    const answer = await answerRequest(request, body);
    if (fate === 'hang') return;
    if (fate === 'drop_reply') {
      request.socket.destroy();
      return;
    }
    writes += 1;
    response.writeHead(answer.status, {
      'content-type': 'application/json',
      'upstash-sync-token': `test:${writes}`,
    });
    response.end(JSON.stringify(answer.body));
  });

  async function answerRequest(
    request: http.IncomingMessage,
    body: string,
  ): Promise<{ status: number; body: unknown }> {
    const url = new URL(request.url ?? '/', 'http://upstash');
    const given = request.headers.authorization ?? `Bearer ${url.searchParams.get('_token')}`;
    if (given !== `Bearer ${token}`) {
      return { status: 401, body: { error: 'WRONGPASS invalid or missing auth token' } };
    }
    const batch = url.pathname === '/pipeline' || url.pathname === '/multi-exec';
    const commands = readCommands(url, body, batch);
    if (commands === null) {
      return { status: 400, body: { error: 'ERR failed to parse command' } };
    }
    requests.push({ path: url.pathname, headers: request.headers, commands });
    const show = showing(request.headers['upstash-encoding'] === 'base64');
    if (url.pathname === '/multi-exec') return runTransaction(wire, commands, show);
    const replies = await wire.pipeline(commands.map(translate));
    if (batch) return { status: 200, body: replies.map(show) };
    const shown = show(replies[0] ?? null);
    return { status: 'error' in shown ? 400 : 200, body: shown };
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    token,
    requests,
    setFault(next, times = Number.POSITIVE_INFINITY) {
      fault = next;
      faultsLeft = times;
    },
    clearFault() {
      fault = null;
    },
    setDelay(ms) {
      delayMs = ms;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      wire.close();
    },
  };
}

type Shown = { result: unknown } | { error: string };

/** Base64 covers every string but OK, at every depth. */
function showing(base64: boolean): (reply: WireReply) => Shown {
  const encode = (value: WireReply): unknown => {
    if (Array.isArray(value)) return value.map(encode);
    if (typeof value !== 'string' || !base64 || value === 'OK') return value;
    return Buffer.from(value).toString('base64');
  };
  return (reply) =>
    reply instanceof WireError ? { error: reply.message } : { result: encode(reply) };
}

async function runTransaction(
  wire: RedisWire,
  commands: string[][],
  show: (reply: WireReply) => Shown,
): Promise<{ status: number; body: unknown }> {
  const replies = await wire.pipeline([['MULTI'], ...commands, ['EXEC']]);
  const results = replies.at(-1) ?? null;
  if (results instanceof WireError) return { status: 400, body: { error: results.message } };
  return { status: 200, body: (results as WireReply[]).map(show) };
}

/** The body's command or commands, or those of the path: `/set/key/value`. */
function readCommands(url: URL, body: string, batch: boolean): string[][] | null {
  if (!batch && url.pathname !== '/') {
    const parts = url.pathname.slice(1).split('/').map(decodeURIComponent);
    return [body === '' ? parts : [...parts, body]];
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return null; // the caller is told so
  }
  const lists = batch ? parsed : [parsed];
  if (!Array.isArray(lists) || lists.length === 0) return null;
  if (!lists.every((list) => Array.isArray(list) && list.length > 0)) return null;
  return (lists as unknown[][]).map((list) => list.map(String));
}

/** Redis 7.0 refuses Upstash's flag, so it is taken off, and digests are kept by the full text. */
function createKeyLocking(): (command: string[]) => string[] {
  const texts = new Map<string, string>();
  return (command) => {
    const [verb = '', script = '', ...rest] = command;
    if (verb.toUpperCase() === 'EVAL') {
      if (!script.startsWith(KEY_LOCKING_LINE)) {
        throw new Error('A script without the key-locking line reached Upstash.');
      }
      texts.set(createHash('sha1').update(script).digest('hex'), script);
      return [verb, script.slice(KEY_LOCKING_LINE.length), ...rest];
    }
    const text = texts.get(script);
    if (verb.toUpperCase() !== 'EVALSHA' || text === undefined) return command;
    return ['EVAL', text.slice(KEY_LOCKING_LINE.length), ...rest];
  };
}

async function readText(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
