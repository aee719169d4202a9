import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

/** Compilers are started for real; on a crowded machine each may take seconds. */
const SCRIPT = resolve('scripts/ensure-build.mjs');
const PACKAGES = resolve('node_modules');

let project: string;

const file = (path: string) => join(project, path);

beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'purser-build-'));
  for (const name of ['tsconfig.json', 'tsconfig.build.json']) cpSync(resolve(name), file(name));
  writeFileSync(file('package.json'), '{"type":"module"}');
  mkdirSync(file('src'));
  writeFileSync(file('src/index.ts'), "import { word } from './word.ts';\nconsole.log(word);\n");
  writeFileSync(file('src/word.ts'), "export const word: string = 'one';\n");
  symlinkSync(PACKAGES, file('node_modules'));
});

afterEach(() => rmSync(project, { recursive: true, force: true }));

function build(...args: string[]) {
  return spawnSync(process.execPath, [SCRIPT, ...args], { cwd: project, encoding: 'utf8' });
}

function run(): string {
  return spawnSync(process.execPath, ['dist/index.js'], { cwd: project, encoding: 'utf8' }).stdout;
}

describe('ensure-build', () => {
  it('builds what is missing with one line, and is silent when it is fresh', () => {
    const first = build();
    expect(first.stderr).toMatch(/^Building the server \.\.\. \d+\.\d s\n$/);
    expect(first.status).toBe(0);
    expect(run()).toBe('one\n');
    expect(build()).toMatchObject({ status: 0, stdout: '', stderr: '' });
  });

  it('builds again when a content changed, not when only a time did', () => {
    build();
    utimesSync(file('src/word.ts'), new Date(), new Date());
    expect(build().stderr).toBe('');
    writeFileSync(file('src/word.ts'), "export const word = 'two';\n");
    expect(build().stderr).toContain('Building');
    expect(run()).toBe('two\n');
  });

  it('removes the output of a module that is gone', () => {
    writeFileSync(file('src/old.ts'), 'export const old = 1;\n');
    writeFileSync(file('src/view.tsx'), 'export const view = 1;\n');
    build();
    expect(existsSync(file('dist/old.js'))).toBe(true);
    rmSync(file('src/old.ts'));
    build();
    expect(existsSync(file('dist/old.js'))).toBe(false);
    expect(existsSync(file('dist/word.js'))).toBe(true);
    expect(existsSync(file('dist/view.js'))).toBe(true);
  });

  it('shows the compiler errors, fails, and tries again the next time', () => {
    writeFileSync(file('src/word.ts'), 'export const word: string = 1;\n');
    for (const { status, stderr } of [build(), build()]) {
      expect(stderr).toContain('src/word.ts');
      expect(stderr).toContain('TS2322');
      expect(status).toBe(1);
    }
  });

  it('says what to install when the compiler is missing, and needs none when fresh', () => {
    build();
    rmSync(file('node_modules'));
    expect(build().status).toBe(0);
    writeFileSync(file('src/word.ts'), "export const word = 'two';\n");
    const { status, stderr } = build();
    expect(stderr).toContain("'typescript', which builds it, is not installed");
    expect(stderr).toContain('npm install --include=dev');
    expect(status).toBe(1);
  });

  it('takes a shipped dist without sources as it is', () => {
    build();
    rmSync(file('src'), { recursive: true });
    expect(build()).toMatchObject({ status: 0, stderr: '' });
    expect(run()).toBe('one\n');
  });

  it('lets one of several starters build while the others wait', async () => {
    const outputs = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise<string>((done, failed) => {
            const child = spawn(process.execPath, [SCRIPT], { cwd: project });
            let output = '';
            child.stderr.on('data', (chunk) => {
              output += chunk;
            });
            child.on('close', (code) => (code === 0 ? done(output) : failed(Error(output))));
          }),
      ),
    );
    expect(outputs.filter((output) => output.includes('Building'))).toHaveLength(1);
    expect(run()).toBe('one\n');
  });

  it('takes over the lock of a builder that was killed', () => {
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    mkdirSync(file('dist'));
    writeFileSync(file('dist/.build.lock'), String(dead));
    expect(build().status).toBe(0);
    expect(run()).toBe('one\n');
  });

  it('starts from a fresh dist it may only read, and explains a stale one', () => {
    build();
    chmodSync(project, 0o755);
    chmodSync(file('dist'), 0o555);
    // Root may write anywhere, so it asks as somebody else.
    const uid = process.getuid?.() === 0 ? { uid: 65_534 } : {};
    const buildAsReader = () =>
      spawnSync(process.execPath, [SCRIPT], { cwd: project, encoding: 'utf8', ...uid });
    try {
      expect(buildAsReader()).toMatchObject({ status: 0, stderr: '' });
      writeFileSync(file('src/word.ts'), "export const word = 'two';\n");
      const { status, stderr } = buildAsReader();
      expect(stderr).toContain('dist/ is older than the sources and cannot be written (EACCES');
      expect(stderr).toContain('Run `npm run build` as the user who owns it.');
      expect(status).toBe(1);
    } finally {
      chmodSync(file('dist'), 0o755);
    }
  });
});
