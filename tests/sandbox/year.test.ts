import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from '@jest/globals';
import { simulateYear } from '../../bench/support/sandboxYear.ts';
import { startSandbox } from '../../src/sandbox/index.ts';

const CUSTOMERS = 6;
const dirs: string[] = [];

afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

/** All that was ever written, and the year's sums. */
async function year(seed: string, port: number) {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-year-'));
  dirs.push(dataDir);
  const sandbox = await startSandbox({ dataDir, port, seed, now: () => Date.UTC(2026, 0, 1) });
  try {
    const report = await simulateYear(sandbox, CUSTOMERS);
    const books = await sandbox.checkBooks();
    const journal = readFileSync(join(dataDir, 'journal.jsonl'));
    const digest = createHash('sha256').update(journal).digest('hex');
    return { report, books, digest, bytes: journal.length, port: sandbox.port };
  } finally {
    await sandbox.stop();
  }
}

it('is the same year byte for byte with the same seed, and its books agree', async () => {
  const first = await year('a', 0);
  // The same port: links in the objects name it.
  const second = await year('a', first.port);
  expect(second).toEqual(first);
  expect(first.books.contradictions).toEqual([]);
  expect(first.books.checked).toBeGreaterThan(1_000);
  expect(first.report).toMatchObject({ customers: CUSTOMERS });
  expect(first.report.active + first.report.canceled).toBe(CUSTOMERS);
  const other = await year('b', first.port);
  expect(other.report).toEqual(first.report);
  expect(other.digest).not.toBe(first.digest);
});
