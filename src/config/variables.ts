import { z } from 'zod';
import { type AlertChannel, findAlertAddressFault } from '../core/alertAddress.ts';

/**
 * Every environment variable Purser reads: its form, what to do when the form is wrong, and
 * whether it is a secret (then its value is never shown). Rules between variables: rules.ts.
 */
export interface Variable<T = unknown> {
  schema: z.ZodType<T, string>;
  fix: string;
  secret: boolean;
  /** The address of a project at another service: its examples are known. */
  project: boolean;
  aliases: readonly string[];
}

function variable<T>(
  schema: z.ZodType<T, string>,
  fix: string,
  options: { secret?: boolean; project?: boolean; aliases?: readonly string[] } = {},
): Variable<T> {
  const { secret = false, project = false, aliases = [] } = options;
  return { schema, fix, secret, project, aliases };
}

const items = (value: string) =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

const VISIBLE_ASCII = /^[\x21-\x7e]+$/;

const secretText = z
  .string()
  .regex(VISIBLE_ASCII, 'contains white space, a newline or characters that are not plain ASCII');

const keyText = secretText.refine((value) => !/^["'`]|["'`]$/.test(value), 'holds a key in quotes');

const keyList = z.string().transform(items).pipe(z.array(keyText).min(1, 'holds no key'));

const flag = z
  .string()
  .toLowerCase()
  .pipe(z.enum(['1', '0', 'true', 'false'], 'is neither 1 nor 0'))
  .transform((value) => value === '1' || value === 'true');

const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .regex(/^-?\d{1,15}$/, 'is not a whole number')
    .transform(Number)
    .pipe(z.int().min(min, `is below ${min}`).max(max, `is above ${max}`));

function url(protocols: readonly string[]) {
  const expected = protocols.map((protocol) => `${protocol}//`).join(' or ');
  return z.string().superRefine((value, context) => {
    const parsed = URL.canParse(value) ? new URL(value) : null;
    if (parsed === null) {
      context.addIssue({ code: 'custom', message: 'is not a URL' });
    } else if (!protocols.includes(parsed.protocol)) {
      context.addIssue({ code: 'custom', message: `does not start with ${expected}` });
    }
  });
}

/** Whether this machine may be named is a rule between variables. */
const alertAddress = (channel: AlertChannel) =>
  z.string().superRefine((value, context) => {
    const fault = findAlertAddressFault(channel, value, true);
    if (fault !== null) context.addIssue({ code: 'custom', message: fault });
  });

const webUrl = url(['http:', 'https:']);

/** A base other paths are appended to: no query, no fragment, no credentials, no slash at the end. */
const baseUrl = webUrl
  .refine((value) => {
    if (!URL.canParse(value)) return true;
    const { search, hash, username, password } = new URL(value);
    return search === '' && hash === '' && username === '' && password === '';
  }, 'has a query, a fragment or a password in it')
  .transform((value) => value.replace(/\/+$/, ''));

const origins = z
  .string()
  .transform(items)
  .pipe(
    z.array(
      z.string().superRefine((value, context) => {
        const parsed = URL.canParse(value) ? new URL(value) : null;
        const good =
          parsed !== null &&
          (parsed.protocol === 'http:' || parsed.protocol === 'https:') &&
          !parsed.hostname.includes('*') &&
          parsed.origin === value.replace(/\/$/, '').toLowerCase();
        if (!good) {
          context.addIssue({
            code: 'custom',
            message: `holds ${JSON.stringify(value.slice(0, 80))}, which is not an origin`,
          });
        }
      }),
    ),
  )
  .transform((list) => list.map((origin) => new URL(origin).origin));

const proxies = z.string().transform((value, context): number | string[] => {
  if (/^\d{1,2}$/.test(value)) return Number(value);
  const list = items(value);
  const address = /^(?:loopback|linklocal|uniquelocal|[0-9a-fA-F.:]+(?:\/\d{1,3})?)$/;
  if (list.length === 0 || !list.every((item) => address.test(item))) {
    context.addIssue({
      code: 'custom',
      message: 'is neither a number of proxies nor a list of their addresses',
    });
    return z.NEVER;
  }
  return list;
});

const database = url(['postgres:', 'postgresql:']);

const NEW_KEY = 'node -e "console.log(crypto.randomBytes(32).toString(\'base64url\'))"';
const KEY_FIX = `Make one with ${NEW_KEY}; separate several by commas while rotating.`;
const SUPABASE_KEYS = 'Copy it from Supabase: Project settings, API keys.';
const FLAG_FIX = 'Set it to 1, or remove it.';

export const variables = {
  NODE_ENV: variable(z.string(), 'Set it to production, or remove it.'),
  HOST: variable(
    z.string().regex(/^[\w.:-]+$/, 'is not a host name or address'),
    'Use 127.0.0.1 for this machine only, or 0.0.0.0 for every network.',
  ),
  PORT: variable(wholeNumber(0, 65_535), 'Use a port from 1 to 65535, or 0 for any free one.'),
  PUBLIC_URL: variable(
    baseUrl,
    'Set the address under which browsers reach Purser, such as https://credits.example.com.',
  ),
  PURSER_DATA_DIR: variable(z.string(), 'Set a folder Purser may write to.'),
  PURSER_RETURN_ORIGINS: variable(
    origins,
    'List origins such as https://app.example.com, separated by commas, without paths or wildcards.',
  ),
  PURSER_TRUST_PROXY: variable(
    proxies,
    'Set the number of proxies in front of Purser (1 behind one load balancer), or their addresses.',
  ),
  PURSER_CATALOGUE: variable(z.string(), 'Set the path of a JSON file, or remove it.'),
  PURSER_ALLOW_EMBEDDED: variable(flag, FLAG_FIX),
  PURSER_KEEP_PAYLOADS: variable(flag, FLAG_FIX),
  LOG_LEVEL: variable(
    z
      .string()
      .toLowerCase()
      .pipe(z.enum(['error', 'warn', 'info', 'debug'], 'is not a log level')),
    'Use error, warn, info or debug.',
  ),

  STRIPE_SECRET_KEY: variable(
    secretText.regex(/^(?:sk|rk)_(?:test|live)_\w+$/, 'is not a Stripe secret key'),
    'Copy the key that starts with sk_test_, sk_live_, rk_test_ or rk_live_ from Stripe: Developers, API keys. Without a key Purser uses its own sandbox.',
    { secret: true },
  ),
  STRIPE_WEBHOOK_SECRET: variable(
    keyList,
    'Copy the signing secret (whsec_...) of the webhook endpoint from Stripe, or from `stripe listen --print-secret`.',
    { secret: true },
  ),
  STRIPE_WEBHOOK_TOLERANCE_SECONDS: variable(
    wholeNumber(1, 86_400),
    'Use a positive number of seconds, 300 as Stripe does; 0 would accept signatures of any age.',
  ),
  STRIPE_API_BASE: variable(baseUrl, 'Set an origin such as http://127.0.0.1:12111, or remove it.'),
  PURSER_STRIPE: variable(
    z.enum(['sandbox'], 'is not a known choice'),
    'Set it to sandbox, or remove it and set STRIPE_SECRET_KEY.',
  ),

  DATABASE_URL: variable(
    database,
    'Set it as postgresql://user:password@host:5432/database, with special characters of the password percent-encoded.',
    { secret: true },
  ),
  SUPABASE_URL: variable(baseUrl, 'Set it as https://<project>.supabase.co.', { project: true }),
  SUPABASE_SECRET_KEY: variable(secretText, SUPABASE_KEYS, {
    secret: true,
    aliases: ['SUPABASE_SERVICE_ROLE_KEY'],
  }),
  SUPABASE_PUBLISHABLE_KEY: variable(secretText, SUPABASE_KEYS, {
    secret: true,
    aliases: ['SUPABASE_ANON_KEY'],
  }),
  SUPABASE_JWT_SECRET: variable(
    secretText,
    'Copy the JWT secret of a project that still signs with HS256, or remove it.',
    { secret: true },
  ),
  UPSTASH_REDIS_REST_URL: variable(
    baseUrl,
    'Copy the REST URL (https://...) of the Upstash database.',
    { project: true, aliases: ['KV_REST_API_URL'] },
  ),
  UPSTASH_REDIS_REST_TOKEN: variable(secretText, 'Copy the REST token of the Upstash database.', {
    secret: true,
    aliases: ['KV_REST_API_TOKEN'],
  }),
  REDIS_URL: variable(
    url(['redis:', 'rediss:']),
    'Set it as redis://host:6379/0 or rediss://...; a REST address belongs into UPSTASH_REDIS_REST_URL.',
    { secret: true },
  ),

  PURSER_JWT_ISSUER: variable(z.string(), 'Set the `iss` claim of your access tokens.'),
  PURSER_JWT_AUDIENCE: variable(
    z.string().transform(items).pipe(z.array(z.string()).min(1, 'holds no audience')),
    'Set the `aud` claim of your access tokens.',
  ),
  PURSER_JWKS_URL: variable(
    webUrl,
    'Set the address of the issuer’s key set, such as https://id.example.com/.well-known/jwks.json.',
  ),
  PURSER_SERVICE_KEY: variable(keyList, KEY_FIX, { secret: true }),
  PURSER_ADMIN_KEY: variable(keyList, KEY_FIX, { secret: true }),
  PURSER_GATEWAY_SECRET: variable(keyList, KEY_FIX, { secret: true }),
  CRON_SECRET: variable(keyList, KEY_FIX, { secret: true }),
  PURSER_METRICS_KEY: variable(keyList, KEY_FIX, { secret: true }),

  SMTP_URL: variable(
    url(['smtp:', 'smtps:']),
    'Set it as smtp://user:password@host:587 or smtps://user:password@host:465.',
    { secret: true },
  ),
  RESEND_API_KEY: variable(secretText, 'Copy the API key (re_...) from Resend.', { secret: true }),
  EMAIL_FROM: variable(
    z.string().regex(/^[^\r\n]*@[^\r\n]*$/, 'is not an e-mail address'),
    'Set it as billing@example.com or "Example <billing@example.com>".',
    { aliases: ['EMAIL_FROM_NOTIFICATION'] },
  ),
  SLACK_WEBHOOK_URL: variable(
    alertAddress('slack'),
    'Copy the incoming webhook’s URL (https://hooks.slack.com/services/...) from Slack.',
    { secret: true },
  ),
  DISCORD_WEBHOOK_URL: variable(
    alertAddress('discord'),
    'Copy the webhook’s URL (https://discord.com/api/webhooks/...) from Discord.',
    { secret: true },
  ),
} satisfies Record<string, Variable>;

export type VariableName = keyof typeof variables;

/** The values that are set and have the right form. */
export type Values = {
  [Name in VariableName]?: z.output<(typeof variables)[Name]['schema']> | undefined;
};
