/**
 * Runs every scripts/generate-*.ts, which write src/generated. With --check it fails when that
 * changed anything: what is committed was stale. (The fresh files stay, ready to be committed.)
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { listFiles } from './source-files.ts';

const OUTPUT = 'src/generated';

function readOutput(): Map<string, string> {
  return new Map(listFiles(OUTPUT).map((path) => [path, readFileSync(path, 'utf8')]));
}

const generators = listFiles('scripts').filter((path) => /\/generate-[\w-]+\.ts$/.test(path));
const before = readOutput();
for (const path of generators) {
  execFileSync(process.execPath, ['--import', 'tsx', path], { stdio: 'inherit' });
}
const after = readOutput();

const changed = [...new Set([...before.keys(), ...after.keys()])].filter(
  (path) => before.get(path) !== after.get(path),
);
for (const path of changed) console.log(`${path} was stale and has been written anew`);
if (process.argv.includes('--check') && changed.length > 0) {
  console.error(`Commit ${OUTPUT} together with what it is generated from.`);
  process.exitCode = 1;
} else if (changed.length === 0) {
  console.log(`${after.size} generated files are fresh (${generators.length} generators)`);
}
