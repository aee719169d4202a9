/**
 * `npm run check`: everything that can be judged without running the product. All steps run, so
 * that one visit shows every complaint; each prints its own output only when it fails.
 */
import { spawnSync } from 'node:child_process';

/** No step takes seconds; one that hangs must not hold up a build machine. */
const STEP_TIMEOUT_MS = 300_000;

/** Programs by file, so that no step depends on a shell or on PATH. */
const BIOME = 'node_modules/@biomejs/biome/bin/biome';
const TSC = 'node_modules/typescript/bin/tsc';
const KNIP = 'node_modules/knip/bin/knip.js';
const script = (path: string, ...rest: string[]) => ['--import', 'tsx', path, ...rest];

interface Step {
  name: string;
  /** Arguments of node. */
  run: string[];
}

const STEPS: Step[] = [
  { name: 'format and lint', run: [BIOME, 'ci', '--colors=off', '.'] },
  { name: 'types of server, tests, tools', run: [TSC, '-p', 'tsconfig.json'] },
  { name: 'types of the pages', run: [TSC, '-p', 'web/tsconfig.json'] },
  { name: 'import direction, cycles', run: script('scripts/check-imports.ts') },
  { name: 'no hidden skips', run: script('scripts/check-skips.ts') },
  { name: 'generated files fresh', run: script('scripts/gen.ts', '--check') },
  { name: 'unused code', run: [KNIP] },
  {
    // What only tests use is not judged by its exports: bounds are exported so that tests name them.
    name: 'unused files and packages in production',
    run: [KNIP, '--production', '--strict', '--include', 'files,dependencies,unlisted,unresolved'],
  },
];

let failures = 0;
for (const { name, run } of STEPS) {
  const startedAt = performance.now();
  const { status, stdout, stderr, error } = spawnSync(process.execPath, run, {
    encoding: 'utf8',
    timeout: STEP_TIMEOUT_MS,
  });
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  if (status === 0) {
    console.log(`  ok  ${name} (${seconds} s)`);
    continue;
  }
  failures += 1;
  console.log(`FAIL  ${name} (${seconds} s)\n${stdout}${stderr}${error?.message ?? ''}`);
}
if (failures > 0) {
  console.error(
    `${failures} of ${STEPS.length} checks failed. \`npm run format\` mends the first.`,
  );
  process.exitCode = 1;
}
