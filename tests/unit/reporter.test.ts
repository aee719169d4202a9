import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findRequirement, noteTitle, skippedTitle } from '../support/requirements.ts';

/** Jest is started for real; on a crowded machine it may take seconds. */
/** Runs the real Jest on a suite of its own; the reporter is judged by what people see. */
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'purser-reporter-'));
  const reporter = resolve('tests/support/reporter.mjs');
  const config = { reporters: ['default', reporter], transform: {}, rootDir: folder };
  writeFileSync(join(folder, 'package.json'), '{}');
  writeFileSync(join(folder, 'jest.config.json'), JSON.stringify(config));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function runJest(suite: string, { ci = false, args = [] as string[] } = {}) {
  writeFileSync(join(folder, 'one.test.js'), suite);
  const jest = resolve('node_modules/jest/bin/jest.js');
  const options = ['--config', join(folder, 'jest.config.json'), '--ci', ...args];
  const { status, stdout } = spawnSync(process.execPath, [jest, ...options], {
    encoding: 'utf8',
    cwd: folder,
    env: { ...process.env, CI: ci ? 'true' : '', NO_COLOR: '1' },
  });
  return { status, stdout, lastLine: stdout.trimEnd().split('\n').at(-1) };
}

const skip = (name: string, body: string) =>
  `${'describe'}.${'skip'}(${JSON.stringify(name)}, () => { ${body} });`;
const passing = "it('works', () => {});";

describe('the reporter', () => {
  it('ends with the sum alone on a line', () => {
    const { status, lastLine } = runJest(`${passing} it('fails', () => { throw Error('no'); });`);
    expect(lastLine).toBe('1 passed, 1 failed, 0 skipped');
    expect(status).toBe(1);
  });

  it('counts a file that cannot be loaded as a failure', () => {
    const { status, lastLine } = runJest('this is not JavaScript');
    expect(lastLine).toBe('0 passed, 1 failed, 0 skipped');
    expect(status).toBe(1);
  });

  it('prints notes of what could be proven elsewhere, which are no skips, even with CI=true', () => {
    const title = noteTitle('was asked of the stand-in', 'set REAL_THING');
    const suite = `it(${JSON.stringify(title)}, () => {});`;
    const { status, stdout, lastLine } = runJest(suite, { ci: true });
    expect(stdout).toContain('one.test.js > was asked of the stand-in\n    more: set REAL_THING');
    expect(lastLine).toBe('1 passed, 0 failed, 0 skipped');
    expect(status).toBe(0);
  });

  const skippedSuite = passing + skip(skippedTitle('chromium', 'pages'), passing + passing);

  it('names a skipped suite, what it lacks and how to get it, and lets the run pass', () => {
    const { status, stdout, lastLine } = runJest(skippedSuite);
    expect(stdout).toContain('one.test.js > pages (2 tests)');
    expect(stdout).toContain('missing: chromium; to get it: apt-get install chromium');
    expect(lastLine).toBe('1 passed, 0 failed, 2 skipped');
    expect(status).toBe(0);
  });

  it('fails the run for a skipped suite when CI=true', () => {
    const { status, stdout, lastLine } = runJest(skippedSuite, { ci: true });
    expect(stdout).toContain('With CI=true a skipped test fails the run.');
    expect(lastLine).toBe('1 passed, 0 failed, 2 skipped');
    expect(status).toBe(1);
  });

  it('shows a skip without a reason as such', () => {
    const { stdout } = runJest(passing + skip('secret', passing));
    expect(stdout).toContain('one.test.js > secret > works\n    no reason given');
  });

  it('does not blame tests left out by a name filter', () => {
    const suite = `${passing} it('other', () => {});`;
    const { status, lastLine } = runJest(suite, { ci: true, args: ['-t', 'works'] });
    expect(lastLine).toBe('1 passed, 0 failed, 1 skipped');
    expect(status).toBe(0);
  });
});

describe('findRequirement', () => {
  it('takes CHROMIUM_PATH, and does not fall back from a wrong one', () => {
    expect(findRequirement('chromium', { CHROMIUM_PATH: process.execPath })).toBe(process.execPath);
    const wrong = { ...process.env, CHROMIUM_PATH: '/nowhere/chromium' };
    expect(findRequirement('chromium', wrong)).toBeNull();
  });

  it('searches PATH for programs and passes over files that cannot be run', () => {
    expect(findRequirement('redis-server', { PATH: '' })).toBeNull();
    writeFileSync(join(folder, 'redis-server'), '', { mode: 0o644 });
    expect(findRequirement('redis-server', { PATH: folder })).toBeNull();
    const other = mkdtempSync(join(folder, 'bin-'));
    writeFileSync(join(other, 'redis-server'), '', { mode: 0o755 });
    const PATH = `${folder}:${other}`;
    expect(findRequirement('redis-server', { PATH })).toBe(join(other, 'redis-server'));
  });
});
