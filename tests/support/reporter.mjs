/**
 * Adds to Jest's own output every skipped suite with what it lacks and how to get it, every note of
 * a suite that could prove more elsewhere, and as the last line the sum, `N passed, N failed, N skipped`. With CI=true a skipped test fails
 * the run, because a machine that cannot run a suite must not look as if it had passed it.
 */
import { relative } from 'node:path';

/** Written by `skippedTitle()` in requirements.ts. */
const NEEDS = /^(?<name>.*) \[needs (?<need>[^:\]]+): (?<remedy>.*)\]$/;

/** Written by `noteTitle()` in requirements.ts. */
const NOTE = /^(?<name>.*) \[note: (?<remedy>.*)\]$/;

const SKIPPED = new Set(['pending', 'todo', 'disabled', 'skipped']);

/** One line per skipped suite; tests skipped in another way stand alone, without a reason. */
function collectSkipped(results, rootDir) {
  const skipped = new Map();
  for (const file of results.testResults) {
    const path = relative(rootDir, file.testFilePath);
    for (const test of file.testResults.filter(({ status }) => SKIPPED.has(status))) {
      const titles = test.ancestorTitles;
      const marked = titles.findIndex((title) => NEEDS.test(title));
      const { name, need, remedy } = NEEDS.exec(titles[marked] ?? '')?.groups ?? {};
      const chain = need ? [...titles.slice(0, marked), name] : [...titles, test.title];
      const title = [path, ...chain].join(' > ');
      const entry = skipped.get(title) ?? { title, need, remedy, tests: 0 };
      entry.tests += 1;
      skipped.set(title, entry);
    }
  }
  return [...skipped.values()];
}

function describeSkipped({ title, need, remedy, tests }) {
  if (need === undefined) {
    return `  ${title}\n    no reason given: suites are skipped with describeWith() only`;
  }
  const count = tests === 1 ? '1 test' : `${tests} tests`;
  return `  ${title} (${count})\n    missing: ${need}; to get it: ${remedy}`;
}

/** Said once, however many projects ran the file. */
function collectNotes(results, rootDir) {
  const notes = results.testResults.flatMap((file) =>
    file.testResults.flatMap(({ title, status, ancestorTitles }) => {
      const { name, remedy } = NOTE.exec(title)?.groups ?? {};
      if (name === undefined || status !== 'passed') return [];
      const path = relative(rootDir, file.testFilePath);
      return [`  ${[path, ...ancestorTitles, name].join(' > ')}\n    more: ${remedy}`];
    }),
  );
  return [...new Set(notes)];
}

/**
 * The API suites by adapter: a row for each database adapter, a column for each Redis adapter, in
 * each cell the tests that passed of those that ran. Projects are named `<database> + <redis>`.
 */
function tabulateAdapters(results) {
  const cells = new Map();
  const columns = new Set();
  for (const file of results.testResults) {
    const [database, redis] = (file.displayName?.name ?? '').split(' + ');
    if (redis === undefined) continue;
    columns.add(redis);
    const row = cells.get(database) ?? new Map();
    const cell = row.get(redis) ?? { passed: 0, ran: 0 };
    cell.passed += file.numPassingTests;
    cell.ran += file.numPassingTests + file.numFailingTests + (file.testExecError ? 1 : 0);
    cells.set(database, row.set(redis, cell));
  }
  if (cells.size === 0) return '';
  const heads = [...columns].sort();
  const line = (first, rest) =>
    `  ${first.padEnd(12)}${rest.map((text) => text.padStart(12)).join('')}`;
  const rows = [...cells].sort().map(([database, row]) =>
    line(
      database,
      heads.map((head) => {
        const cell = row.get(head);
        return cell === undefined ? '-' : `${cell.passed}/${cell.ran}`;
      }),
    ),
  );
  return `\nThe API suites by adapter (tests passed):\n${line('', heads)}\n${rows.join('\n')}\n`;
}

export default class SkipReporter {
  #config;
  #error;
  /** Undefined until a run has ended: an interrupted one has no sum. */
  #sum;

  constructor(globalConfig) {
    this.#config = globalConfig;
    // Jest puts its summary after every other reporter; only at the exit is a line the last one.
    process.once('exit', () => {
      if (this.#sum !== undefined) process.stdout.write(`\n${this.#sum}\n`);
    });
  }

  onRunComplete(_contexts, results) {
    // A file that could not even be loaded has no tests to count, and is a failure all the same.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    process.stdout.write(tabulateAdapters(results));
    const notes = collectNotes(results, this.#config.rootDir);
    if (notes.length > 0) process.stdout.write(`\nNotes:\n${notes.join('\n')}\n`);
    // With a name filter (-t) tests are left out because somebody asked for that.
    const isFiltered = Boolean(this.#config.testNamePattern);
    if (skipped > 0 && !isFiltered) {
      const lines = collectSkipped(results, this.#config.rootDir).map(describeSkipped);
      process.stdout.write(`\nSkipped, so not proven here:\n${lines.join('\n')}\n`);
      if (process.env.CI === 'true') {
        this.#error = new Error(`CI=true and ${skipped} tests were skipped`);
        process.stdout.write('With CI=true a skipped test fails the run.\n');
      }
    }
    this.#sum = `${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped`;
  }

  getLastError() {
    return this.#error;
  }
}
