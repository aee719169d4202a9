/**
 * `npm run bench` runs every bench/*.bench.ts, `npm run bench -- <name> ...` the ones whose names
 * contain a word. Each has a process of its own, so that no bench inherits another's heap. Benches
 * are read by people: a missed goal is printed, only a bench that breaks fails the run.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';

const FOLDER = 'bench';
const SUFFIX = '.bench.ts';
const BENCH_TIMEOUT_MS = 20 * 60_000;

const words = process.argv.slice(2);
const all = readdirSync(FOLDER).filter((name) => name.endsWith(SUFFIX));
const chosen = all.filter(
  (name) => words.length === 0 || words.some((word) => name.includes(word)),
);
if (chosen.length === 0) {
  const names = all.map((name) => basename(name, SUFFIX)).join(', ');
  console.error(`No bench is called like ${words.join(' or ')}. There are: ${names}`);
  process.exitCode = 1;
}
for (const name of chosen) {
  const { status, error } = spawnSync(process.execPath, ['--import', 'tsx', join(FOLDER, name)], {
    stdio: 'inherit',
    timeout: BENCH_TIMEOUT_MS,
  });
  if (status !== 0) {
    console.error(`${name} broke: ${error?.message ?? `exit code ${status}`}`);
    process.exitCode = 1;
  }
}
