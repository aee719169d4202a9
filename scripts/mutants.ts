/**
 * `npm run mutants [-- part of a name]`: are the proofs awake? Plants each fault of mutant-list.ts
 * into a copy of sql/, runs its test files against it, and demands that a test fails; the same
 * files must pass first without any. Takes some minutes. The working tree is not touched.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { MUTANTS, type Mutant, plant } from './mutant-list.ts';

/** A run that hangs is no proof; the slowest takes about two minutes on a busy machine. */
const RUN_TIMEOUT_MS = 900_000;

interface Result {
  passed: number;
  /** "file: test" of each that failed. */
  failed: string[];
  output: string;
}

const folder = mkdtempSync(join(tmpdir(), 'purser-mutants-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

/** Runs test files against sql/ as it is, or with one mutant in it. */
function run(tests: readonly string[], mutant: Mutant | null): Result {
  const sql = join(folder, 'sql');
  rmSync(sql, { recursive: true, force: true });
  cpSync('sql', sql, { recursive: true });
  if (mutant !== null) {
    const file = join(sql, mutant.file);
    writeFileSync(file, plant(mutant, readFileSync(file, 'utf8')));
  }
  const report = join(folder, 'report.json');
  rmSync(report, { force: true });
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      '--experimental-vm-modules',
      'node_modules/jest/bin/jest.js',
      ...tests,
      ...['--ignoreProjects', 'existing app', '--json', '--outputFile', report],
    ],
    {
      encoding: 'utf8',
      timeout: RUN_TIMEOUT_MS,
      env: {
        ...process.env,
        PURSER_TEST_SQL_FOLDER: sql,
        PURSER_TEST_KEEP: 'no',
        PURSER_PROOF_SHRINK: 'no',
      },
    },
  );
  return { ...readReport(report), output: `${stdout}\n${stderr}`.slice(-4000) };
}

interface JestReport {
  numPassedTests: number;
  testResults: {
    name: string;
    assertionResults: { status: string; title: string }[];
  }[];
}

/** Nothing passed and nothing failed where the run ended before its tests. */
function readReport(path: string): { passed: number; failed: string[] } {
  let report: JestReport;
  try {
    report = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return { passed: 0, failed: [] };
  }
  const failed = report.testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === 'failed')
      .map(({ title }) => `${relative('.', name)}: ${title}`),
  );
  return { passed: report.numPassedTests, failed };
}

const part = process.argv[2] ?? '';
const chosen = MUTANTS.filter(({ name }) => name.includes(part));
if (chosen.length === 0) {
  console.error(`No mutant has "${part}" in its name.`);
  process.exit(1);
}
const tests = [...new Set(chosen.flatMap((mutant) => mutant.tests))];
const sound = run(tests, null);
if (sound.passed === 0 || sound.failed.length > 0) {
  console.error(`Without a mutant these must pass: ${tests.join(', ')}\n${sound.output}`);
  process.exit(1);
}
console.log(`Without a mutant: ${sound.passed} tests pass.\n`);
console.log('| mutant | file | caught by |\n|---|---|---|');
let escaped = 0;
for (const mutant of chosen) {
  const { passed, failed, output } = run(mutant.tests, mutant);
  const [first] = failed;
  if (first === undefined) escaped += 1;
  const more = failed.length > 1 ? ` and ${failed.length - 1} more` : '';
  const ran = passed > 0 ? 'NOT CAUGHT' : `NO TEST RAN\n${output}\n`;
  console.log(`| ${mutant.name} | ${mutant.file} | ${first === undefined ? ran : first + more} |`);
}
console.log(`\n${chosen.length - escaped} of ${chosen.length} caught.`);
if (escaped > 0) process.exitCode = 1;
