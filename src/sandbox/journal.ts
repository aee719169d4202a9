import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { JsonObject, View } from './json.ts';

export interface Row<V extends View = View, H = JsonObject> {
  readonly id: string;
  /** What the API answers. */
  readonly view: V;
  /** What the sandbox must remember and the API does not show. */
  readonly hidden: H;
}

export type Change =
  | readonly ['put', collection: string, row: Row<View, unknown>]
  | readonly ['del', collection: string, id: string];

const FILE = 'journal.jsonl';

/** Rewritten while running once it has grown by this much since the last rewrite. Bytes. */
const JOURNAL_GROWTH_MAX = 64 * 1024 * 1024;

/**
 * One line per committed request, so a kill between two writes cannot leave half of a payment.
 * Written synchronously without fsync: that survives SIGKILL; a power cut may lose the last lines,
 * which is the right price for a sandbox.
 */
export interface Journal {
  /** Every change since the beginning, oldest first. A torn last line is cut off. */
  replay(): Change[];
  append(changes: readonly Change[]): void;
  /** True when it has grown enough to be worth `rewrite`. */
  shouldRewrite(): boolean;
  /** Replaces the file by these rows, atomically. */
  rewrite(rows: Iterable<Change>): void;
  close(): void;
}

export function createJournal(dataDir: string): Journal {
  const path = join(dataDir, FILE);
  let fd = openSync(path, 'a', 0o600);
  let grown = 0;
  return {
    replay: () => readChanges(path),
    append(changes) {
      grown += writeSync(fd, `${JSON.stringify(changes)}\n`);
    },
    shouldRewrite: () => grown > JOURNAL_GROWTH_MAX,
    rewrite(rows) {
      const next = `${path}.next`;
      const nextFd = openSync(next, 'w', 0o600);
      for (const row of rows) writeSync(nextFd, `${JSON.stringify([row])}\n`);
      renameSync(next, path);
      closeSync(fd);
      fd = nextFd;
      grown = 0;
    },
    close: () => closeSync(fd),
  };
}

function readChanges(path: string): Change[] {
  if (!existsSync(path)) return [];
  const bytes = readFileSync(path);
  const end = bytes.lastIndexOf(0x0a) + 1;
  // Bytes after the last newline are a line the process was killed in: its request got no answer.
  if (end < bytes.length) truncateSync(path, end);
  const changes: Change[] = [];
  bytes
    .subarray(0, end)
    .toString('utf8')
    .split('\n')
    .forEach((line, index) => {
      if (line === '') return;
      try {
        changes.push(...(JSON.parse(line) as Change[]));
      } catch (cause) {
        throw new Error(
          `${path} is damaged in line ${index + 1}. Remove the file to start with an empty sandbox.`,
          { cause },
        );
      }
    });
  return changes;
}
