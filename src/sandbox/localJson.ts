import { request } from 'node:http';

/** Of one answer. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

interface LocalAnswer {
  readonly status: number;
  /** Parsed; undefined when it is not JSON. */
  readonly body: unknown;
}

/**
 * Asks a sandbox on this machine, on a connection of its own: a pooled one may belong to a process
 * that has died since, and its reset would look like a dead sandbox.
 * @throws the socket's error (`code`), or one named TimeoutError.
 */
export function askLocal(
  method: string,
  url: string,
  body: unknown,
  timeoutMs: number,
  headers: Readonly<Record<string, string>> = {},
): Promise<LocalAnswer> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const outgoing = request(url, {
      method,
      agent: false,
      headers: { 'content-type': 'application/json', connection: 'close', ...headers },
      signal,
    });
    outgoing.on('error', (error) => reject(signal.aborted ? signal.reason : error));
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      incoming.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) outgoing.destroy(new Error('The answer is too long.'));
        else chunks.push(chunk);
      });
      incoming.on('error', reject);
      incoming.on('end', () =>
        resolve({
          status: incoming.statusCode ?? 0,
          body: parse(Buffer.concat(chunks).toString('utf8')),
        }),
      );
    });
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Another program may listen there; who asks decides what that means.
    return undefined;
  }
}
