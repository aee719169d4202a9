/**
 * A second Redis client, of its own making: what the product's client wrote is read with other
 * eyes, and the Upstash stand-in passes commands on untouched.
 */
import net from 'node:net';

export class WireError extends Error {}

export type WireReply = string | number | null | WireError | WireReply[];

export interface RedisWire {
  /** One command; an error reply is thrown. */
  call(...command: (string | number)[]): Promise<WireReply>;
  /** Commands in one write; error replies are values. */
  pipeline(commands: string[][]): Promise<WireReply[]>;
  /** Called with each reply that nobody asked for: MONITOR's lines. */
  onPush(listener: (reply: WireReply) => void): void;
  close(): void;
}

export async function connectWire(port: number): Promise<RedisWire> {
  const socket = net.connect(port, '127.0.0.1');
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const waiting: { resolve(reply: WireReply): void; reject(error: Error): void }[] = [];
  let listener: ((reply: WireReply) => void) | undefined;
  let buffered = Buffer.alloc(0);

  socket.on('data', (chunk) => {
    buffered = Buffer.concat([buffered, chunk]);
    for (;;) {
      const parsed = parseReply(buffered, 0);
      if (parsed === null) return;
      buffered = buffered.subarray(parsed.end);
      const asker = waiting.shift();
      if (asker) asker.resolve(parsed.reply);
      else listener?.(parsed.reply);
    }
  });
  const end = (error?: Error) => {
    for (const asker of waiting.splice(0)) {
      asker.reject(error ?? new Error('The connection to Redis has closed.'));
    }
  };
  socket.on('error', end);
  socket.on('close', () => end());

  function pipeline(commands: string[][]): Promise<WireReply[]> {
    if (socket.destroyed) return Promise.reject(new Error('The connection to Redis has closed.'));
    const replies = commands.map(
      () =>
        new Promise<WireReply>((resolve, reject) => {
          waiting.push({ resolve, reject });
        }),
    );
    socket.write(commands.map(encodeCommand).join(''));
    return Promise.all(replies);
  }

  return {
    pipeline,
    async call(...command) {
      const [reply] = await pipeline([command.map(String)]);
      if (reply instanceof WireError) throw reply;
      return reply ?? null;
    },
    onPush(next) {
      listener = next;
    },
    close: () => socket.destroy(),
  };
}

function encodeCommand(command: string[]): string {
  const parts = command.map((text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`);
  return `*${command.length}\r\n${parts.join('')}`;
}

/** One whole RESP2 reply from `start`, or null while bytes are missing. */
function parseReply(bytes: Buffer, start: number): { reply: WireReply; end: number } | null {
  const lineEnd = bytes.indexOf('\r\n', start);
  if (lineEnd < 0) return null;
  const line = bytes.toString('utf8', start + 1, lineEnd);
  const next = lineEnd + 2;
  switch (String.fromCharCode(bytes[start] ?? 0)) {
    case '+':
      return { reply: line, end: next };
    case '-':
      return { reply: new WireError(line), end: next };
    case ':':
      return { reply: Number(line), end: next };
    case '$': {
      const length = Number(line);
      if (length < 0) return { reply: null, end: next };
      if (bytes.length < next + length + 2) return null;
      return { reply: bytes.toString('utf8', next, next + length), end: next + length + 2 };
    }
    case '*': {
      const count = Number(line);
      if (count < 0) return { reply: null, end: next };
      const items: WireReply[] = [];
      let end = next;
      for (let index = 0; index < count; index += 1) {
        const item = parseReply(bytes, end);
        if (item === null) return null;
        items.push(item.reply);
        end = item.end;
      }
      return { reply: items, end };
    }
    default:
      throw new Error(`Not a RESP2 reply: ${bytes.toString('utf8', start, lineEnd)}`);
  }
}
