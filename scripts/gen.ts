/**
 * `npm run gen` runs every scripts/generate-*.ts, which write src/generated. With --check each only
 * compares, says what is stale, and exits with 1; that is the contract a generator has to keep.
 */
import { spawnSync } from 'node:child_process';
import { listFiles } from './source-files.ts';

const GENERATOR_TIMEOUT_MS = 120_000;

for (const path of listFiles('scripts')) {
  if (!/\/generate-[\w-]+\.ts$/.test(path)) continue;
  const args = ['--import', 'tsx', path, ...process.argv.slice(2)];
  const { status, error } = spawnSync(process.execPath, args, {
    stdio: 'inherit',
    timeout: GENERATOR_TIMEOUT_MS,
  });
  if (status === 0) continue;
  console.error(`${path}: ${error?.message ?? `exit code ${status}`}`);
  process.exitCode = 1;
}
