/**
 * Builds `dist/` when it is missing or was built from other sources, so that `npm start` works
 * after `npm install` alone. Plain JavaScript: it runs before anything is compiled, and where the
 * development dependencies are gone. Compares contents and not times, which clones, archives and
 * image layers change; reading the sources takes about 20 ms.
 *
 *   node scripts/ensure-build.mjs [server] [web] [--force]     (neither named: both)
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';

const LOCK = 'dist/.build.lock';
const LOCK_WAIT_MS = 180_000;
const LOCK_POLL_MS = 100;

const PARTS = {
  server: {
    title: 'server',
    inputs: ['src', 'tsconfig.json', 'tsconfig.build.json'],
    output: 'dist',
    compiler: 'typescript',
    command: ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'],
  },
  web: {
    title: 'pages',
    inputs: ['web', 'package-lock.json'],
    output: 'dist/web',
    compiler: 'vite',
    command: ['node_modules/vite/bin/vite.js', 'build', 'web', '--emptyOutDir', '-l', 'warn'],
  },
};

/** A failure whose text is for the person who typed the command. */
class BuildError extends Error {}

function* walk(path) {
  if (!statSync(path).isDirectory()) {
    yield path;
    return;
  }
  for (const name of readdirSync(path).sort()) {
    if (name !== 'node_modules' && name !== 'dist') yield* walk(`${path}/${name}`);
  }
}

/** One hash over names and contents; null when there are no sources, as in a slim image. */
function fingerprint({ inputs }) {
  if (!existsSync(inputs[0])) return null;
  const hash = createHash('sha256');
  for (const path of inputs.filter((input) => existsSync(input)).flatMap((p) => [...walk(p)])) {
    hash.update(`${path}\0`).update(readFileSync(path)).update('\0');
  }
  return hash.digest('hex');
}

const stampPath = (name) => `dist/.${name}.stamp`;

function isFresh(name, print) {
  if (print === null) return true;
  const path = stampPath(name);
  return existsSync(path) && readFileSync(path, 'utf8') === print;
}

function requireCompiler({ compiler, command }) {
  if (existsSync(command[0])) return;
  throw new BuildError(
    `dist/ is missing or stale, and '${compiler}', which builds it, is not installed.\n` +
      'It is a development dependency: run `npm install --include=dev`, or build first\n' +
      '(`npm run build`) and remove the development dependencies afterwards.',
  );
}

/** The compiler never deletes: without this a renamed module would stay loadable. */
function removeOrphans() {
  for (const path of [...walk('dist')]) {
    const module = /^dist\/(?!web\/)(.*)\.js(?:\.map)?$/.exec(path)?.[1];
    if (module && !existsSync(`src/${module}.ts`) && !existsSync(`src/${module}.tsx`)) rmSync(path);
  }
}

function buildPart(name) {
  const part = PARTS[name];
  requireCompiler(part);
  // Without the stamp an interrupted build counts as missing.
  rmSync(stampPath(name), { force: true });
  const print = fingerprint(part);
  const { status, stdout, stderr } = spawnSync(process.execPath, part.command, {
    encoding: 'utf8',
  });
  if (status !== 0) {
    throw new BuildError(`The ${part.title} could not be built:\n${stdout}${stderr}`);
  }
  if (name === 'server') removeOrphans();
  else if (!existsSync(`${part.output}/index.html`)) {
    throw new BuildError(
      `web/vite.config.ts must write to ${part.output}: no index.html is there.`,
    );
  }
  writeFileSync(stampPath(name), print);
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code !== 'ESRCH';
  }
}

/** Servers started together must not build over each other: one builds, the others wait. */
function withLock(work) {
  mkdirSync('dist', { recursive: true });
  const deadline = Date.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      writeFileSync(LOCK, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = existsSync(LOCK) ? Number(readFileSync(LOCK, 'utf8')) : 0;
    if (holder > 0 && !isAlive(holder)) rmSync(LOCK, { force: true });
    else if (Date.now() > deadline) {
      throw new BuildError(`Process ${holder} has been building for long; else delete ${LOCK}.`);
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_POLL_MS);
  }
  try {
    work();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

function main(args) {
  const named = Object.keys(PARTS).filter((name) => args.includes(name));
  const names = named.length > 0 ? named : Object.keys(PARTS);
  const stale = () =>
    names.filter((name) => {
      const print = fingerprint(PARTS[name]);
      return print !== null && (args.includes('--force') || !isFresh(name, print));
    });
  if (stale().length === 0) return;
  withLock(() => {
    // Another process may have built while this one waited.
    const wanted = stale();
    if (wanted.length === 0) return;
    const titles = wanted.map((name) => PARTS[name].title).join(' and ');
    process.stderr.write(`Building the ${titles} ... `);
    const startedAt = performance.now();
    for (const name of wanted) buildPart(name);
    process.stderr.write(`${((performance.now() - startedAt) / 1000).toFixed(1)} s\n`);
  });
}

try {
  main(process.argv.slice(2));
} catch (error) {
  const isDenied = error.code === 'EACCES' || error.code === 'EPERM' || error.code === 'EROFS';
  if (isDenied) {
    console.error(
      `\ndist/ is older than the sources and cannot be written (${error.code} ${error.path}).\n` +
        'Run `npm run build` as the user who owns it.',
    );
  } else if (error instanceof BuildError) console.error(`\n${error.message}`);
  else throw error;
  process.exitCode = 1;
}
