import { openRedis } from '../../../compose/openRedis.ts';
import type { SettingProblem } from '../../../config/settingsError.ts';
import { findSupabaseKeyFault } from '../../../core/supabaseSettings.ts';
import { type Finding, fail, messageOf, ok, type Rule, skipped, warn } from '../rule.ts';

/** Variables whose problems another rule tells. */
const SUPABASE_KEYS = [
  'SUPABASE_SECRET_KEY',
  'SUPABASE_SERVICE_ROLE_KEY',
  'SUPABASE_PUBLISHABLE_KEY',
  'SUPABASE_ANON_KEY',
];
const REDIS = [
  'REDIS_URL',
  'UPSTASH_REDIS_REST_URL',
  'UPSTASH_REDIS_REST_TOKEN',
  'KV_REST_API_URL',
  'KV_REST_API_TOKEN',
];
const MODE = ['PURSER_STRIPE'];
const isMissingSecret = ({ variable, problem }: SettingProblem) =>
  variable === 'STRIPE_WEBHOOK_SECRET' && problem.startsWith('is missing');

const told = ({ variable, problem, fix }: SettingProblem): Finding =>
  fail(`${variable} ${problem}.`, fix);

export const settingsRule: Rule = {
  code: 'settings',
  title: 'Settings are well formed',
  async check({ problems, warnings }) {
    const elsewhere = new Set([...SUPABASE_KEYS, ...REDIS, ...MODE]);
    const own = problems.filter(
      (problem) => !elsewhere.has(problem.variable) && !isMissingSecret(problem),
    );
    const findings = [
      ...own.map(told),
      ...warnings.map((text) => warn(text, 'Write the value anew, without what surrounds it.')),
    ];
    return findings.length > 0
      ? findings
      : ok('No secret has quotes, white space or a placeholder in it.');
  },
};

export const supabaseKeyRule: Rule = {
  code: 'supabase-key',
  title: 'The Supabase key may act for the service',
  async check({ problems, values, nowMs }) {
    const own = problems.filter(({ variable }) => SUPABASE_KEYS.includes(variable));
    if (own.length > 0) return own.map(told);
    const { SUPABASE_URL: url, SUPABASE_SECRET_KEY: key } = values;
    if (url === undefined || key === undefined) {
      return skipped('The database is not reached through Supabase.');
    }
    const fault = findSupabaseKeyFault(key, url, nowMs() / 1000);
    return fault === null
      ? ok('It is a secret or service_role key.')
      : fail(`SUPABASE_SECRET_KEY ${fault.problem}.`, fault.fix);
  },
};

export const redisRule: Rule = {
  code: 'redis',
  title: 'Redis answers at the address of its kind',
  async check({ problems, values, parts, nowMs }) {
    const own = problems.filter(({ variable }) => REDIS.includes(variable));
    if (own.length > 0) return own.map(told);
    if (parts.redis === 'memory') return skipped('The mirror is kept in the server’s own process.');
    const { REDIS_URL: redisUrl = null, UPSTASH_REDIS_REST_URL: url = '' } = values;
    const upstash =
      redisUrl === null ? { url, token: values.UPSTASH_REDIS_REST_TOKEN ?? '' } : null;
    const logger = { error() {}, warn() {}, info() {}, debug() {} };
    const redis = await openRedis({ redisUrl, upstash }, { logger, nowMs });
    try {
      await redis.store.ping();
      return ok(`${redis.description}.`);
    } catch (error) {
      return fail(
        messageOf(error),
        `Check ${parts.redis === 'tcp' ? 'REDIS_URL' : 'UPSTASH_REDIS_REST_URL and its token'}, and that this machine may reach it. Without Redis checks are answered by the ledger, slower.`,
      );
    } finally {
      await redis.stop();
    }
  },
};

export { isMissingSecret, told };
