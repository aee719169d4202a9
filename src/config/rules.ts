import { findAlertAddressFault } from '../core/alertAddress.ts';
import {
  findSupabaseKeyFault,
  findSupabaseUrlFault,
  isSupabaseSecretKey,
} from '../core/supabaseSettings.ts';
import type { SettingProblem } from './settingsError.ts';
import type { Values } from './variables.ts';

/** Shortest key accepted in production, in characters. */
export const KEY_LENGTH_MIN = 32;

export interface Parts {
  database: 'embedded' | 'pg' | 'supabase';
  redis: 'memory' | 'tcp' | 'upstash';
  stripe: 'sandbox' | 'stripe';
}

/** Which implementation of each part the settings ask for. */
export function chooseParts(values: Values): Parts {
  return {
    database: values.DATABASE_URL ? 'pg' : values.SUPABASE_URL ? 'supabase' : 'embedded',
    redis: values.REDIS_URL ? 'tcp' : values.UPSTASH_REDIS_REST_URL ? 'upstash' : 'memory',
    stripe: values.STRIPE_SECRET_KEY && !values.PURSER_STRIPE ? 'stripe' : 'sandbox',
  };
}

function findStripeProblems(values: Values, production: boolean): SettingProblem[] {
  const problems: SettingProblem[] = [];
  const key = values.STRIPE_SECRET_KEY;
  if (values.PURSER_STRIPE === 'sandbox' && key?.includes('_live_')) {
    problems.push({
      variable: 'PURSER_STRIPE',
      problem: 'is sandbox while STRIPE_SECRET_KEY is a live key, which must never meet a stand-in',
      fix: 'Remove PURSER_STRIPE to sell for real, or remove the live key to try things out.',
    });
  }
  if (key && values.PURSER_STRIPE === undefined && values.STRIPE_WEBHOOK_SECRET === undefined) {
    problems.push({
      variable: 'STRIPE_WEBHOOK_SECRET',
      problem: 'is missing while STRIPE_SECRET_KEY is set: no payment could be credited',
      fix: 'Copy the signing secret (whsec_...) of the endpoint <PUBLIC_URL>/api/webhooks/stripe, or run `stripe listen --print-secret`.',
    });
  }
  if (production && chooseParts(values).stripe === 'sandbox') {
    problems.push({
      variable: values.PURSER_STRIPE ? 'PURSER_STRIPE' : 'STRIPE_SECRET_KEY',
      problem: values.PURSER_STRIPE
        ? 'is sandbox, which production refuses: its payments are not real'
        : 'is missing, and production refuses the sandbox that would take its place',
      fix: 'Set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET, and remove PURSER_STRIPE.',
    });
  }
  return problems;
}

function findSupabaseProblems(values: Values, wrong: ReadonlySet<string>): SettingProblem[] {
  const { SUPABASE_URL: url, SUPABASE_SECRET_KEY: key, SUPABASE_PUBLISHABLE_KEY: shown } = values;
  const problems: SettingProblem[] = [];
  if (shown !== undefined && isSupabaseSecretKey(shown)) {
    problems.push({
      variable: 'SUPABASE_PUBLISHABLE_KEY',
      problem: 'holds a secret key, which opens the whole database',
      fix: 'Set the publishable (or anon) key here; revoke the secret one if pages were served with it.',
    });
  }
  if (url === undefined) return problems;
  const urlFault = findSupabaseUrlFault(url);
  if (urlFault !== null) problems.push({ variable: 'SUPABASE_URL', ...urlFault });
  if (chooseParts(values).database !== 'supabase' || wrong.has('SUPABASE_SERVICE_ROLE_KEY')) {
    return problems;
  }
  const keyFault =
    key === undefined
      ? {
          problem: 'is missing while SUPABASE_URL is set without DATABASE_URL',
          fix: 'Copy a secret key (sb_secret_...) from Supabase: Project settings, API keys; or set DATABASE_URL.',
        }
      : findSupabaseKeyFault(key, url, Date.now() / 1000);
  if (keyFault !== null) problems.push({ variable: 'SUPABASE_SECRET_KEY', ...keyFault });
  return problems;
}

function findIdentityProblems(values: Values): SettingProblem[] {
  const problems: SettingProblem[] = [];
  if (values.PURSER_JWKS_URL && !values.PURSER_JWT_ISSUER && !values.SUPABASE_URL) {
    problems.push({
      variable: 'PURSER_JWT_ISSUER',
      problem: 'is missing while PURSER_JWKS_URL is set: tokens of any issuer would be accepted',
      fix: 'Set the `iss` claim of your access tokens.',
    });
  }
  if (
    values.PURSER_JWT_ISSUER &&
    !values.PURSER_JWKS_URL &&
    !values.SUPABASE_URL &&
    !values.SUPABASE_JWT_SECRET
  ) {
    problems.push({
      variable: 'PURSER_JWKS_URL',
      problem: 'is missing while PURSER_JWT_ISSUER is set: no token could be verified',
      fix: 'Set the address of the issuer’s key set, often <issuer>/.well-known/jwks.json.',
    });
  }
  return problems;
}

const KEYS = [
  'PURSER_SERVICE_KEY',
  'PURSER_ADMIN_KEY',
  'PURSER_GATEWAY_SECRET',
  'CRON_SECRET',
  'PURSER_METRICS_KEY',
] as const;

/** One key that opens two doors turns a leak of the weaker one into a leak of both. */
function findSharedKeys(values: Values): SettingProblem[] {
  const owners = new Map<string, string>();
  const problems: SettingProblem[] = [];
  for (const name of KEYS) {
    for (const key of values[name] ?? []) {
      const owner = owners.get(key);
      if (owner !== undefined && owner !== name) {
        problems.push({
          variable: name,
          problem: `holds the same key as ${owner}`,
          fix: 'Give each its own key, so that one leak does not open the other.',
        });
      }
      owners.set(key, name);
    }
  }
  return problems;
}

function findProductionProblems(values: Values, wrong: ReadonlySet<string>): SettingProblem[] {
  const problems: SettingProblem[] = [];
  for (const name of KEYS) {
    if (values[name]?.some((key) => key.length < KEY_LENGTH_MIN)) {
      problems.push({
        variable: name,
        problem: `holds a key shorter than ${KEY_LENGTH_MIN} characters, which production refuses`,
        fix: 'Make one with node -e "console.log(crypto.randomBytes(32).toString(\'base64url\'))".',
      });
    }
  }
  for (const name of ['PURSER_SERVICE_KEY', 'PURSER_ADMIN_KEY'] as const) {
    if (values[name] === undefined) {
      problems.push({
        variable: name,
        problem: 'is missing; production makes no keys of its own',
        fix: 'Make one with node -e "console.log(crypto.randomBytes(32).toString(\'base64url\'))".',
      });
    }
  }
  if (values.PUBLIC_URL === undefined) {
    problems.push({
      variable: 'PUBLIC_URL',
      problem: 'is missing: buyers could not be sent back from Stripe',
      fix: 'Set the https address under which browsers reach Purser.',
    });
  } else if (!values.PUBLIC_URL.startsWith('https://')) {
    problems.push({
      variable: 'PUBLIC_URL',
      problem: `is ${values.PUBLIC_URL}, and production serves https only`,
      fix: 'Put TLS in front of Purser and set the https address.',
    });
  }
  for (const [name, channel] of [
    ['SLACK_WEBHOOK_URL', 'slack'],
    ['DISCORD_WEBHOOK_URL', 'discord'],
  ] as const) {
    const url = values[name];
    const fault = url === undefined ? null : findAlertAddressFault(channel, url, false);
    if (fault !== null) {
      problems.push({ variable: name, problem: fault, fix: 'Copy the webhook’s own address.' });
    }
  }
  const parts = chooseParts(values);
  const embedded = [
    ...(parts.database === 'embedded' && !wrong.has('DATABASE_URL') && !wrong.has('SUPABASE_URL')
      ? ['the embedded database (set DATABASE_URL, or SUPABASE_URL and its secret key)']
      : []),
    ...(parts.redis === 'memory' && !wrong.has('REDIS_URL')
      ? ['the in-process mirror (set a Redis server)']
      : []),
  ];
  if (embedded.length > 0 && values.PURSER_ALLOW_EMBEDDED !== true) {
    problems.push({
      variable: 'PURSER_ALLOW_EMBEDDED',
      problem: `is not set, and production refuses ${embedded.join(' and ')}`,
      fix: 'Set the named servers, or PURSER_ALLOW_EMBEDDED=1 to run on one machine on purpose.',
    });
  }
  return problems;
}

/**
 * What is wrong between variables, each of which is right by itself. `wrong` names those that are
 * absent from `values` for their form: they are not called missing as well, so that one mistake
 * is reported once.
 */
export function findProblems(
  values: Values,
  production: boolean,
  wrong: ReadonlySet<string>,
): SettingProblem[] {
  const problems = [
    ...findStripeProblems(values, production),
    ...findSupabaseProblems(values, wrong),
    ...findIdentityProblems(values),
    ...findSharedKeys(values),
    ...(production ? findProductionProblems(values, wrong) : []),
  ];
  if (values.REDIS_URL && !/^\/?\d*$/.test(new URL(values.REDIS_URL).pathname)) {
    problems.push({
      variable: 'REDIS_URL',
      problem: 'names a database that is not a number',
      fix: 'End it with the number of the database, as in redis://host:6379/0, or with nothing.',
    });
  }
  if (values.UPSTASH_REDIS_REST_URL && !values.UPSTASH_REDIS_REST_TOKEN) {
    problems.push({
      variable: 'UPSTASH_REDIS_REST_TOKEN',
      problem: 'is missing while UPSTASH_REDIS_REST_URL is set',
      fix: 'Copy the REST token of the Upstash database.',
    });
  }
  if (values.SMTP_URL && values.RESEND_API_KEY) {
    problems.push({
      variable: 'RESEND_API_KEY',
      problem: 'and SMTP_URL are both set, and each mail goes one way only',
      fix: 'Remove one of them.',
    });
  }
  if ((values.SMTP_URL || values.RESEND_API_KEY) && !values.EMAIL_FROM) {
    problems.push({
      variable: 'EMAIL_FROM',
      problem: 'is missing while mail is set up',
      fix: 'Set the sender, such as billing@example.com.',
    });
  }
  return problems.filter(({ variable }) => !wrong.has(variable));
}

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

/** What works but is likely not meant. */
export function findWarnings(values: Values, production: boolean): string[] {
  const warnings: string[] = [];
  const strange = values.STRIPE_WEBHOOK_SECRET?.some((secret) => !secret.startsWith('whsec_'));
  if (strange) {
    warnings.push(
      'STRIPE_WEBHOOK_SECRET does not start with whsec_; webhooks are refused unless it is the signing secret of the endpoint. Copy that (whsec_...) from Stripe, or from `stripe listen --print-secret`.',
    );
  }
  if (values.PURSER_STRIPE === 'sandbox' && values.STRIPE_SECRET_KEY) {
    warnings.push('PURSER_STRIPE is sandbox, so STRIPE_SECRET_KEY is not used.');
  }
  const parts = chooseParts(values);
  if (parts.stripe === 'stripe' && values.STRIPE_SECRET_KEY?.includes('_live_') && !production) {
    warnings.push(
      'STRIPE_SECRET_KEY is a live key and NODE_ENV is not production: real money is taken under the rules for trials. Use a test key here, or set NODE_ENV=production.',
    );
  }
  if (/:\[[^@]*\]@/.test(values.DATABASE_URL ?? '')) {
    warnings.push(
      'DATABASE_URL has square brackets around the password. If they come from the example, remove them.',
    );
  }
  const jwks = values.PURSER_JWKS_URL;
  if (jwks?.startsWith('http://') && !LOOPBACK.has(new URL(jwks).hostname)) {
    warnings.push(
      'PURSER_JWKS_URL is not https: who can change its answer can sign in as anybody.',
    );
  }
  const open = values.HOST !== undefined && !LOOPBACK.has(values.HOST);
  if (!production && open && parts.database === 'embedded' && parts.stripe === 'sandbox') {
    warnings.push(
      `HOST is ${values.HOST} and every part is embedded: anybody who reaches this port can act as any user.`,
    );
  }
  if (production && values.CRON_SECRET === undefined) {
    warnings.push('CRON_SECRET is not set, so /api/cron is closed.');
  }
  return warnings;
}
