import { existsSync } from 'node:fs';
import { loadLocalKeys } from './config/localKeys.ts';
import { type Environment, readVariables } from './config/readVariables.ts';
import { chooseParts, findProblems, findWarnings, type Parts } from './config/rules.ts';
import { SettingsError } from './config/settingsError.ts';
import type { Values } from './config/variables.ts';

export { SettingsError } from './config/settingsError.ts';

export interface JwtSettings {
  issuer: string;
  audience: readonly string[];
  jwksUrl: string;
}

/** Everything Purser was told, checked, in one frozen object. Null = not set. */
export interface Settings {
  /** `NODE_ENV=production`: key lengths, https and real parts are then required. */
  readonly production: boolean;
  /** `local` = the sandbox, else the mode of the Stripe key. */
  readonly mode: 'local' | 'test' | 'live';
  readonly parts: Readonly<Parts>;
  /** True when database, mirror and Stripe are all embedded: only then may callers name users. */
  readonly allEmbedded: boolean;
  readonly http: {
    readonly host: string;
    /** 0 = any free port. */
    readonly port: number;
    /** Without a slash at the end; null = the address listened on. */
    readonly publicUrl: string | null;
    readonly returnOrigins: readonly string[];
    /** Number of proxies in front, or their addresses; false = believe no forwarded address. */
    readonly trustProxy: number | readonly string[] | false;
  };
  readonly dataDir: string;
  readonly catalogue: string | null;
  readonly databaseUrl: string | null;
  readonly supabase: {
    readonly url: string;
    readonly secretKey: string | null;
    readonly publishableKey: string | null;
  } | null;
  readonly redisUrl: string | null;
  readonly upstash: { readonly url: string; readonly token: string } | null;
  readonly stripe: {
    readonly secretKey: string | null;
    /** Several while rotating; empty with the sandbox, which makes its own. */
    readonly webhookSecrets: readonly string[];
    readonly webhookToleranceSeconds: number;
    readonly apiBase: string | null;
  };
  readonly identity: {
    /** Asymmetric tokens; null = none are accepted. */
    readonly jwt: Readonly<JwtSettings> | null;
    /** HS256 tokens; null = none are accepted. */
    readonly hs256: {
      readonly secret: string;
      readonly issuer: string | null;
      readonly audience: readonly string[];
    } | null;
    readonly gatewaySecrets: readonly string[];
  };
  readonly keys: {
    readonly service: readonly string[];
    readonly admin: readonly string[];
    readonly cron: readonly string[];
    /** Open /metrics and nothing else. */
    readonly metrics: readonly string[];
  };
  readonly mail: {
    readonly smtpUrl: string | null;
    readonly resendApiKey: string | null;
    readonly from: string | null;
  };
  readonly alerts: { readonly slackUrl: string | null; readonly discordUrl: string | null };
  readonly keepPayloads: boolean;
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
}

export interface LoadedSettings {
  settings: Settings;
  /** To be printed at start; none holds a secret. */
  warnings: string[];
  /** The file that holds the keys made for a local server; null when all keys were set. */
  keysFile: string | null;
}

function deepFreeze<T>(value: T): T {
  if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}

function stripeMode(values: Values, parts: Parts): Settings['mode'] {
  if (parts.stripe === 'sandbox') return 'local';
  return values.STRIPE_SECRET_KEY?.includes('_live_') ? 'live' : 'test';
}

function identity(values: Values): Settings['identity'] {
  const supabaseAuth = values.SUPABASE_URL ? `${values.SUPABASE_URL}/auth/v1` : null;
  const issuer = values.PURSER_JWT_ISSUER ?? supabaseAuth;
  const audience = values.PURSER_JWT_AUDIENCE ?? ['authenticated'];
  const jwksUrl =
    values.PURSER_JWKS_URL ?? (supabaseAuth ? `${supabaseAuth}/.well-known/jwks.json` : null);
  const secret = values.SUPABASE_JWT_SECRET;
  return {
    jwt: issuer && jwksUrl ? { issuer, audience, jwksUrl } : null,
    hs256: secret ? { secret, issuer, audience } : null,
    gatewaySecrets: values.PURSER_GATEWAY_SECRET ?? [],
  };
}

function toSettings(values: Values, production: boolean): Settings {
  const parts = chooseParts(values);
  return {
    production,
    mode: stripeMode(values, parts),
    parts,
    allEmbedded:
      parts.database === 'embedded' && parts.redis === 'memory' && parts.stripe === 'sandbox',
    http: {
      host: values.HOST ?? '127.0.0.1',
      port: values.PORT ?? 3000,
      publicUrl: values.PUBLIC_URL ?? null,
      returnOrigins: values.PURSER_RETURN_ORIGINS ?? [],
      trustProxy: values.PURSER_TRUST_PROXY ?? false,
    },
    dataDir: values.PURSER_DATA_DIR ?? '.purser',
    catalogue: values.PURSER_CATALOGUE ?? null,
    databaseUrl: values.DATABASE_URL ?? null,
    supabase: values.SUPABASE_URL
      ? {
          url: values.SUPABASE_URL,
          secretKey: values.SUPABASE_SECRET_KEY ?? null,
          publishableKey: values.SUPABASE_PUBLISHABLE_KEY ?? null,
        }
      : null,
    redisUrl: values.REDIS_URL ?? null,
    upstash:
      values.UPSTASH_REDIS_REST_URL && values.UPSTASH_REDIS_REST_TOKEN
        ? { url: values.UPSTASH_REDIS_REST_URL, token: values.UPSTASH_REDIS_REST_TOKEN }
        : null,
    stripe: {
      secretKey: parts.stripe === 'stripe' ? (values.STRIPE_SECRET_KEY ?? null) : null,
      webhookSecrets: values.STRIPE_WEBHOOK_SECRET ?? [],
      webhookToleranceSeconds: values.STRIPE_WEBHOOK_TOLERANCE_SECONDS ?? 300,
      apiBase: values.STRIPE_API_BASE ?? null,
    },
    identity: identity(values),
    keys: {
      service: values.PURSER_SERVICE_KEY ?? [],
      admin: values.PURSER_ADMIN_KEY ?? [],
      cron: values.CRON_SECRET ?? [],
      metrics: values.PURSER_METRICS_KEY ?? [],
    },
    mail: {
      smtpUrl: values.SMTP_URL ?? null,
      resendApiKey: values.RESEND_API_KEY ?? null,
      from: values.EMAIL_FROM ?? null,
    },
    alerts: {
      slackUrl: values.SLACK_WEBHOOK_URL ?? null,
      discordUrl: values.DISCORD_WEBHOOK_URL ?? null,
    },
    keepPayloads: values.PURSER_KEEP_PAYLOADS ?? true,
    logLevel: values.LOG_LEVEL ?? 'info',
  };
}

/** Pure: checks an environment. Errors: `SettingsError` with all problems at once. */
export function parseSettings(env: Environment): { settings: Settings; warnings: string[] } {
  const { values, aliases, problems, warnings } = readVariables(env);
  const production = values.NODE_ENV === 'production';
  const wrong = new Set(problems.map((problem) => problem.variable));
  for (const [name, alias] of aliases) if (wrong.has(alias)) wrong.add(name);
  // Told under the name that its owner wrote.
  const between = findProblems(values, production, wrong).map((problem) => ({
    ...problem,
    variable: aliases.get(problem.variable) ?? problem.variable,
  }));
  if (problems.length + between.length > 0) throw new SettingsError([...problems, ...between]);
  return {
    settings: deepFreeze(toSettings(values, production)),
    warnings: [...warnings, ...findWarnings(values, production)],
  };
}

/**
 * Reads `.env` in the working directory if there is one (what is set already wins), checks the
 * environment, and gives a server that is not in production the keys it was not given.
 * Errors: `SettingsError`.
 */
export function loadSettings(envFile = '.env'): LoadedSettings {
  if (existsSync(envFile)) process.loadEnvFile(envFile);
  const { settings, warnings } = parseSettings(process.env);
  const { service, admin, cron } = settings.keys;
  const complete = service.length > 0 && admin.length > 0 && cron.length > 0;
  if (settings.production || complete) return { settings, warnings, keysFile: null };
  const local = loadLocalKeys(settings.dataDir);
  const keys = {
    service: service.length > 0 ? service : [local.serviceKey],
    admin: admin.length > 0 ? admin : [local.adminKey],
    cron: cron.length > 0 ? cron : [local.cronSecret],
    metrics: settings.keys.metrics,
  };
  return { settings: deepFreeze({ ...settings, keys }), warnings, keysFile: local.path };
}
