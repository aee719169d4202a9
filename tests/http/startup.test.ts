/**
 * What a start says about each setting that is wrong: the variable as its owner wrote it, what is
 * wrong with it, and what to do; and never the value of a secret.
 */
import { describe, expect, it } from '@jest/globals';
import { parseSettings, SettingsError } from '../../src/config.ts';

type Environment = Record<string, string>;

const REF = 'abcdefghijklmnopqrst';
const STRIPE = { STRIPE_SECRET_KEY: 'sk_test_0123456789', STRIPE_WEBHOOK_SECRET: 'whsec_0123456' };
const SUPABASE = {
  SUPABASE_URL: `https://${REF}.supabase.co`,
  SUPABASE_SECRET_KEY: 'sb_secret_0123456789',
};
const UPSTASH = {
  UPSTASH_REDIS_REST_URL: 'https://apt-fox-12345.upstash.io',
  UPSTASH_REDIS_REST_TOKEN: 'token0123456789',
};
/** What marks a value that no message may repeat. */
const HIDDEN = 'hidden0123456789';

const legacyKey = (claims: object) =>
  `eyJhbGciOiJIUzI1NiJ9.${Buffer.from(JSON.stringify({ ...claims, hidden: HIDDEN })).toString('base64url')}.c2lnbmF0dXJl`;
const ANON = legacyKey({ role: 'anon', ref: REF });
const SERVICE = legacyKey({ role: 'service_role', ref: REF });

/** [what was done, settings, variable named, what is wrong, what to do] */
const STOPS: [string, Environment, string, RegExp, RegExp][] = [
  // Supabase: which key, which address
  [
    'a publishable key where the secret belongs',
    { ...SUPABASE, SUPABASE_SECRET_KEY: `sb_publishable_${HIDDEN}` },
    'SUPABASE_SECRET_KEY',
    /is a publishable key/,
    /Copy a secret key \(sb_secret_/,
  ],
  [
    'a secret key where the publishable belongs',
    { ...SUPABASE, SUPABASE_PUBLISHABLE_KEY: `sb_secret_${HIDDEN}` },
    'SUPABASE_PUBLISHABLE_KEY',
    /secret key, which opens the whole database/,
    /revoke the secret one/,
  ],
  [
    'the anon key as service key',
    { SUPABASE_URL: SUPABASE.SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY: ANON },
    'SUPABASE_SERVICE_ROLE_KEY',
    /is the anon key instead of the service_role key/,
    /legacy service_role key/,
  ],
  [
    'the service key as anon key',
    { ...SUPABASE, SUPABASE_ANON_KEY: SERVICE },
    'SUPABASE_ANON_KEY',
    /holds a secret key/,
    /publishable \(or anon\) key/,
  ],
  [
    'the service key of another project',
    { ...SUPABASE, SUPABASE_SECRET_KEY: legacyKey({ role: 'service_role', ref: 'z'.repeat(20) }) },
    'SUPABASE_SECRET_KEY',
    /belongs to the project z+/,
    /same project/,
  ],
  [
    'an account token as key',
    { ...SUPABASE, SUPABASE_SECRET_KEY: `sbp_${HIDDEN}` },
    'SUPABASE_SECRET_KEY',
    /access token of the Supabase account/,
    /secret key/,
  ],
  [
    'no key beside the address',
    { SUPABASE_URL: SUPABASE.SUPABASE_URL },
    'SUPABASE_SECRET_KEY',
    /is missing while SUPABASE_URL is set/,
    /Copy a secret key/,
  ],
  [
    'SUPABASE_URL with /rest/v1',
    { ...SUPABASE, SUPABASE_URL: `https://${REF}.supabase.co/rest/v1` },
    'SUPABASE_URL',
    /ends with \/rest\/v1/,
    new RegExp(`https://${REF}\\.supabase\\.co\\.`),
  ],
  [
    'the dashboard as SUPABASE_URL',
    { ...SUPABASE, SUPABASE_URL: `https://supabase.com/dashboard/project/${REF}` },
    'SUPABASE_URL',
    /is the address of the dashboard/,
    new RegExp(`https://${REF}\\.supabase\\.co`),
  ],
  [
    'the connection string as SUPABASE_URL',
    { ...SUPABASE, SUPABASE_URL: `postgresql://postgres:${HIDDEN}@db.${REF}.supabase.co/postgres` },
    'SUPABASE_URL',
    /is the connection string/,
    /DATABASE_URL/,
  ],
  [
    'an example as SUPABASE_URL',
    { ...SUPABASE, SUPABASE_URL: 'https://your-project.supabase.co' },
    'SUPABASE_URL',
    /is a placeholder/,
    /https:\/\/<project>\.supabase\.co/,
  ],
  [
    'an API key as JWT secret',
    { SUPABASE_JWT_SECRET: ANON },
    'SUPABASE_JWT_SECRET',
    /is a token or API key \(eyJ\.\.\.\)/,
    /Copy the JWT secret/,
  ],

  // Redis: two kinds of address
  [
    'redis:// in the REST URL',
    { ...UPSTASH, UPSTASH_REDIS_REST_URL: `rediss://default:${HIDDEN}@x.upstash.io:6379` },
    'UPSTASH_REDIS_REST_URL',
    /is the address for Redis clients, not the REST address/,
    /REDIS_URL/,
  ],
  [
    'redis:// in the REST URL, under its other name',
    { KV_REST_API_URL: 'redis://x:6379', KV_REST_API_TOKEN: 'token0123456789' },
    'KV_REST_API_URL',
    /not the REST address/,
    /REST URL \(https:\/\/\.\.\.\)/,
  ],
  [
    'the REST URL in REDIS_URL',
    { REDIS_URL: 'https://apt-fox-12345.upstash.io' },
    'REDIS_URL',
    /is the REST address of an Upstash database/,
    /UPSTASH_REDIS_REST_URL, with UPSTASH_REDIS_REST_TOKEN/,
  ],
  [
    'any https:// in REDIS_URL',
    { REDIS_URL: 'https://redis.example.com' },
    'REDIS_URL',
    /does not start with redis:\/\/ or rediss:\/\//,
    /redis:\/\/host:6379/,
  ],
  [
    'Upstash without TLS',
    { REDIS_URL: `redis://default:${HIDDEN}@apt-fox-12345.upstash.io:6379` },
    'REDIS_URL',
    /without TLS/,
    /rediss:\/\/ \(with two s\)/,
  ],
  [
    'the command of a console in REDIS_URL',
    { REDIS_URL: `redis-cli --tls -u redis://default:${HIDDEN}@x.upstash.io:6379` },
    'REDIS_URL',
    /is a redis-cli command/,
    /redis:\/\/\.\.\. part alone/,
  ],
  [
    'no token beside the REST URL',
    { UPSTASH_REDIS_REST_URL: UPSTASH.UPSTASH_REDIS_REST_URL },
    'UPSTASH_REDIS_REST_TOKEN',
    /is missing while UPSTASH_REDIS_REST_URL is set/,
    /Copy the REST token/,
  ],

  // Postgres
  [
    'an https address as DATABASE_URL',
    { DATABASE_URL: `https://${REF}.supabase.co` },
    'DATABASE_URL',
    /address of a Supabase project, not of its Postgres/,
    /SUPABASE_URL with SUPABASE_SECRET_KEY/,
  ],
  [
    'some other web address as DATABASE_URL',
    { DATABASE_URL: 'https://db.example.com' },
    'DATABASE_URL',
    /is a web address/,
    /postgresql:\/\/user:password@host/,
  ],
  ...['#', '/', '?'].map((character): (typeof STOPS)[number] => [
    `an unescaped ${character} in the password`,
    { DATABASE_URL: `postgresql://u:${HIDDEN}${character}x@db.example.com:5432/app` },
    'DATABASE_URL',
    /special character .* in its user or password/,
    /Percent-encode it: .*# is %23/,
  ]),
  [
    'an unescaped % in the password',
    { DATABASE_URL: `postgresql://u:100%${HIDDEN}@db.example.com/app` },
    'DATABASE_URL',
    /begins no percent-encoding/,
    /%25/,
  ],
  [
    'the password of the example',
    { DATABASE_URL: 'postgresql://postgres:[YOUR-PASSWORD]@db.example.com/postgres' },
    'DATABASE_URL',
    /placeholder such as \[YOUR-PASSWORD\]/,
    /Put the password of the database in its place/,
  ],
  [
    'a psql command as DATABASE_URL',
    { DATABASE_URL: `psql "postgresql://u:${HIDDEN}@db.example.com/app"` },
    'DATABASE_URL',
    /is a psql command/,
    /Keep the postgresql:\/\/\.\.\. part/,
  ],
  [
    'a JDBC address',
    { DATABASE_URL: 'jdbc:postgresql://db.example.com/app' },
    'DATABASE_URL',
    /is a JDBC address/,
    /without jdbc:/,
  ],

  // Stripe
  [
    'a publishable Stripe key',
    { ...STRIPE, STRIPE_SECRET_KEY: `pk_live_${HIDDEN}` },
    'STRIPE_SECRET_KEY',
    /is a publishable key/,
    /Copy the secret key/,
  ],
  [
    'the webhook secret as key',
    { ...STRIPE, STRIPE_SECRET_KEY: `whsec_${HIDDEN}` },
    'STRIPE_SECRET_KEY',
    /is the signing secret of a webhook/,
    /STRIPE_WEBHOOK_SECRET/,
  ],
  [
    'the key as webhook secret',
    { ...STRIPE, STRIPE_WEBHOOK_SECRET: `sk_test_${HIDDEN}` },
    'STRIPE_WEBHOOK_SECRET',
    /is an API key, not the signing secret/,
    /whsec_\.\.\./,
  ],
  [
    'the endpoint’s id as webhook secret',
    { ...STRIPE, STRIPE_WEBHOOK_SECRET: 'we_1234567890' },
    'STRIPE_WEBHOOK_SECRET',
    /is the id of a webhook endpoint/,
    /signing secret \(whsec_\.\.\.\)/,
  ],
  [
    'no webhook secret',
    { STRIPE_SECRET_KEY: STRIPE.STRIPE_SECRET_KEY },
    'STRIPE_WEBHOOK_SECRET',
    /no payment could be credited/,
    /api\/webhooks\/stripe/,
  ],
  [
    'a live key in local mode',
    { ...STRIPE, STRIPE_SECRET_KEY: `sk_live_${HIDDEN}`, PURSER_STRIPE: 'sandbox' },
    'PURSER_STRIPE',
    /is sandbox while STRIPE_SECRET_KEY is a live key/,
    /Remove PURSER_STRIPE/,
  ],
  [
    'the masked key of the dashboard',
    { ...STRIPE, STRIPE_SECRET_KEY: 'sk_live_****cdef' },
    'STRIPE_SECRET_KEY',
    /is the masked form/,
    /Reveal it/,
  ],

  // Secrets as they are pasted
  ...[
    ['STRIPE_SECRET_KEY', 'sk_test_...'],
    ['STRIPE_SECRET_KEY', 'sk_test_your_key'],
    ['STRIPE_WEBHOOK_SECRET', 'whsec_xxx'],
    ['STRIPE_WEBHOOK_SECRET', 'whsec_'],
    ['SUPABASE_SECRET_KEY', 'your-key-here'],
    ['SUPABASE_SERVICE_ROLE_KEY', '<service-role-key>'],
    ['UPSTASH_REDIS_REST_TOKEN', 'YOUR_TOKEN'],
    ['PURSER_SERVICE_KEY', 'replace-me'],
    ['CRON_SECRET', 'my-secret-goes-here'],
  ].map(([variable = '', value = '']): (typeof STOPS)[number] => [
    `the placeholder ${value} as ${variable}`,
    { ...STRIPE, [variable]: value },
    variable,
    /is a placeholder, not a value/,
    /Copy|Make/,
  ]),
  [
    'a newline within a secret',
    { ...STRIPE, STRIPE_SECRET_KEY: `sk_test_01234\n${HIDDEN}` },
    'STRIPE_SECRET_KEY',
    /a newline/,
    /Copy the key/,
  ],
  [
    'a space within a secret',
    { SUPABASE_JWT_SECRET: `top ${HIDDEN}` },
    'SUPABASE_JWT_SECRET',
    /white space/,
    /Copy the JWT secret/,
  ],
  [
    'quotes around a secret',
    { ...STRIPE, STRIPE_WEBHOOK_SECRET: `"whsec_${HIDDEN}"` },
    'STRIPE_WEBHOOK_SECRET',
    /is wrapped in quotes/,
    /Remove the quotes/,
  ],
  [
    'quotes around an address',
    { DATABASE_URL: `'postgresql://u:${HIDDEN}@db.example.com/app'` },
    'DATABASE_URL',
    /is wrapped in quotes/,
    /Remove the quotes/,
  ],
  [
    'the name pasted with the value',
    { ...STRIPE, STRIPE_SECRET_KEY: `STRIPE_SECRET_KEY=sk_test_${HIDDEN}` },
    'STRIPE_SECRET_KEY',
    /holds its own name/,
    /what follows the =/,
  ],

  // Ours
  [
    'the webhook’s path in PUBLIC_URL',
    { PUBLIC_URL: 'https://credits.example.com/api/webhooks/stripe' },
    'PUBLIC_URL',
    /ends in \/api/,
    /without the path/,
  ],
  [
    'one key for two doors',
    { PURSER_SERVICE_KEY: HIDDEN, PURSER_ADMIN_KEY: HIDDEN },
    'PURSER_ADMIN_KEY',
    /same key as PURSER_SERVICE_KEY/,
    /Give each its own key/,
  ],
];

const WARNS: [string, Environment, RegExp][] = [
  [
    'white space and a newline around a secret, which are removed',
    { ...STRIPE, STRIPE_WEBHOOK_SECRET: `whsec_${HIDDEN}\n` },
    /STRIPE_WEBHOOK_SECRET had white space or a newline around it.*Correct it/,
  ],
  [
    'a webhook secret that Stripe would not give',
    { ...STRIPE, STRIPE_WEBHOOK_SECRET: HIDDEN },
    /STRIPE_WEBHOOK_SECRET does not start with whsec_.*Copy that/,
  ],
  [
    'real money under the rules for trials',
    { ...STRIPE, STRIPE_SECRET_KEY: `sk_live_${HIDDEN}` },
    /STRIPE_SECRET_KEY is a live key and NODE_ENV is not production.*test key/,
  ],
  [
    'the example’s brackets around a real password',
    { DATABASE_URL: `postgresql://postgres:[${HIDDEN}]@db.example.com/postgres` },
    /DATABASE_URL has square brackets around the password.*remove them/,
  ],
  [
    'two names for one setting that differ',
    { ...SUPABASE, SUPABASE_SERVICE_ROLE_KEY: `sb_secret_${HIDDEN}` },
    /SUPABASE_SERVICE_ROLE_KEY differs from SUPABASE_SECRET_KEY.*wins/,
  ],
];

/** What works and looks odd: none of it may be refused, or warned about. */
const FINE: [string, Environment][] = [
  ['a password with @ and : in it', { DATABASE_URL: 'postgresql://u:p@ss:word@h.test/app' }],
  ['an encoded password', { DATABASE_URL: 'postgresql://u:p%23%2F%25@h.test:5432/app' }],
  ['no password', { DATABASE_URL: 'postgresql://h.test/app?application_name=a@b' }],
  [
    'the transaction pooler',
    { DATABASE_URL: `postgresql://postgres.${REF}:pw@eu.pooler.supabase.com:6543/postgres` },
  ],
  ['a key of our own with words in it', { PURSER_SERVICE_KEY: 'keep-your-secret-xxx-here-0123' }],
  ['a key of one letter', { PURSER_SERVICE_KEY: 'x'.repeat(32) }],
  ['a restricted Stripe key', { ...STRIPE, STRIPE_SECRET_KEY: 'rk_test_0123456789' }],
  ['both kinds of Supabase keys', { ...SUPABASE, SUPABASE_ANON_KEY: ANON }],
  ['a legacy service key', { ...SUPABASE, SUPABASE_SECRET_KEY: SERVICE }],
  ['Upstash over TLS', { REDIS_URL: 'rediss://default:t@x.upstash.io:6379' }],
  ['a domain that begins with your', { PUBLIC_URL: 'https://your-bakery.test' }],
];

function messageOf(env: Environment): string {
  try {
    parseSettings(env);
  } catch (error) {
    if (error instanceof SettingsError) return error.message;
    throw error;
  }
  return '';
}

describe('a start is refused for', () => {
  it.each(STOPS)('%s', (_what, env, variable, problem, fix) => {
    const message = messageOf(env);
    const lines = message.split('\n').filter((line) => line.startsWith('  '));
    const at = lines.findIndex((line) => line.startsWith(`  ${variable}  `));
    expect({ message, at }).not.toMatchObject({ at: -1 });
    expect(lines[at]).toMatch(problem);
    expect(lines[at + 1]).toMatch(/^ {6}fix: /);
    expect(lines[at + 1]).toMatch(fix);
    expect(message).toContain('one setting is wrong');
    expect(message).not.toContain(HIDDEN);
    for (const value of Object.values(env)) {
      if (/^(eyJ|sb_|sk_|pk_|whsec_.)/.test(value)) expect(message).not.toContain(value);
    }
  });
});

describe('a start warns of', () => {
  it.each(WARNS)('%s', (_what, env, expected) => {
    const { warnings } = parseSettings(env);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(expected);
    expect(warnings[0]).not.toContain(HIDDEN);
  });
});

describe('a start says nothing about', () => {
  it.each(FINE)('%s', (_what, env) => {
    expect(messageOf(env)).toBe('');
    expect(parseSettings(env).warnings).toEqual([]);
  });
});
