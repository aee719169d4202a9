import type { SettingProblem } from '../config/settingsError.ts';
import { parseSettings, type Settings, SettingsError } from '../config.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The settings of a function: what Vercel knows itself is taken from there, and what a function
 * cannot do is refused by name. Errors: `SettingsError` with all problems at once.
 */
export function loadVercelSettings(env: Environment): { settings: Settings; warnings: string[] } {
  const problems = findPlatformProblems(env);
  try {
    const loaded = parseSettings(toServerEnvironment(env));
    if (problems.length === 0) return loaded;
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    const told = new Set(problems.map(({ variable }) => variable));
    // That embedded parts may be allowed is true on a server only.
    told.add('PURSER_ALLOW_EMBEDDED');
    problems.push(...error.problems.filter(({ variable }) => !told.has(variable)));
  }
  throw new SettingsError(problems);
}

const isSet = (env: Environment, ...names: string[]) =>
  names.some((name) => (env[name] ?? '').trim() !== '');

/** The address under which this deployment is reached: the domain, or a preview's own. */
function ownAddress(env: Environment): string | undefined {
  const host =
    env.VERCEL_ENV === 'production'
      ? env.VERCEL_PROJECT_PRODUCTION_URL
      : (env.VERCEL_BRANCH_URL ?? env.VERCEL_URL);
  return host === undefined ? undefined : `https://${host}`;
}

function toServerEnvironment(env: Environment): Environment {
  // DATABASE_URL may be there for `npm run migrate`, REDIS_URL comes with Upstash's integration:
  // both name what the API and REST settings name, for programs that can hold connections.
  const { DATABASE_URL: _database, REDIS_URL: _redis, ...rest } = env;
  return {
    ...rest,
    NODE_ENV: env.NODE_ENV || 'production',
    PUBLIC_URL: env.PUBLIC_URL || ownAddress(env),
    // Vercel overwrites what a client sends in x-forwarded-for: one proxy, to be believed.
    PURSER_TRUST_PROXY: env.PURSER_TRUST_PROXY || '1',
  };
}

function findPlatformProblems(env: Environment): SettingProblem[] {
  const problems: SettingProblem[] = [];
  if (!isSet(env, 'SUPABASE_URL')) {
    problems.push({
      variable: 'SUPABASE_URL',
      problem: 'is missing: on Vercel the ledger is reached over the Data API of Supabase',
      fix: 'Set SUPABASE_URL and SUPABASE_SECRET_KEY (or add the Supabase integration to the project).',
    });
  } else if (isSet(env, 'DATABASE_URL') && !isSameProject(env)) {
    problems.push({
      variable: 'DATABASE_URL',
      problem: 'names another database than SUPABASE_URL, and only the latter is used on Vercel',
      fix: 'Remove it from this project, so that no two deployments keep two ledgers.',
    });
  }
  if (!isSet(env, 'UPSTASH_REDIS_REST_URL', 'KV_REST_API_URL')) {
    problems.push({
      variable: 'UPSTASH_REDIS_REST_URL',
      problem: 'is missing: instances share no memory, so the mirror has to be in Upstash Redis',
      fix: 'Set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN (or add the Upstash integration to the project).',
    });
  }
  if (isSet(env, 'PURSER_STRIPE') || !isSet(env, 'STRIPE_SECRET_KEY')) {
    problems.push({
      variable: isSet(env, 'PURSER_STRIPE') ? 'PURSER_STRIPE' : 'STRIPE_SECRET_KEY',
      problem: 'asks for the Stripe sandbox, which needs a process of its own',
      fix: 'Set STRIPE_SECRET_KEY (a test key for a trial) and STRIPE_WEBHOOK_SECRET, and remove PURSER_STRIPE.',
    });
  }
  if (env.CRON_SECRET?.includes(',')) {
    problems.push({
      variable: 'CRON_SECRET',
      problem: 'holds several keys, and Vercel would send them all as one',
      fix: 'Set one key; a new deployment takes a new one over at once.',
    });
  }
  return problems;
}

/** A connection string of the same project: db.<ref>.supabase.co, or the pooler's postgres.<ref>. */
function isSameProject({ SUPABASE_URL, DATABASE_URL = '' }: Environment): boolean {
  const project = /^https:\/\/([a-z0-9]+)\.supabase\.co/.exec(SUPABASE_URL?.trim() ?? '')?.[1];
  return project !== undefined && new RegExp(`[@/.]${project}[.:@]`).test(DATABASE_URL);
}
