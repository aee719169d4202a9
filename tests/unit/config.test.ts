import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { SettingProblem } from '../../src/config/settingsError.ts';
import { loadSettings, parseSettings, SettingsError } from '../../src/config.ts';

const KEY = (name: string) => `${name}-0123456789-0123456789-0123456789`;

const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL: 'postgresql://purser:pw@db.example.com:5432/purser',
  STRIPE_SECRET_KEY: 'sk_live_1234567890',
  STRIPE_WEBHOOK_SECRET: 'whsec_1234567890',
  PUBLIC_URL: 'https://credits.example.com',
  PURSER_SERVICE_KEY: KEY('service'),
  PURSER_ADMIN_KEY: KEY('admin'),
  CRON_SECRET: KEY('cron'),
  PURSER_ALLOW_EMBEDDED: '1',
};

function problemsOf(env: Record<string, string | undefined>): readonly SettingProblem[] {
  try {
    parseSettings(env);
  } catch (error) {
    if (error instanceof SettingsError) return error.problems;
    throw error;
  }
  return [];
}
const wrong = (env: Record<string, string | undefined>) =>
  problemsOf(env).map(({ variable }) => variable);

describe('settings', () => {
  it('need nothing on a fresh machine', () => {
    const { settings, warnings } = parseSettings({});
    expect(warnings).toEqual([]);
    expect(settings).toMatchObject({
      production: false,
      mode: 'local',
      parts: { database: 'embedded', redis: 'memory', stripe: 'sandbox' },
      allEmbedded: true,
      http: {
        host: '127.0.0.1',
        port: 3000,
        publicUrl: null,
        returnOrigins: [],
        trustProxy: false,
      },
      dataDir: '.purser',
      stripe: { secretKey: null, webhookSecrets: [], webhookToleranceSeconds: 300 },
      identity: { jwt: null, hs256: null, gatewaySecrets: [] },
      logLevel: 'info',
    });
  });

  it('report all that is wrong at once, each with its fix', () => {
    const problems = problemsOf({
      PORT: '70000',
      STRIPE_SECRET_KEY: 'pk_test_123',
      STRIPE_WEBHOOK_TOLERANCE_SECONDS: '0',
      DATABASE_URL: 'mysql://localhost/x',
      PURSER_RETURN_ORIGINS: 'https://a.test,*',
    });
    expect(problems.map(({ variable }) => variable).sort()).toEqual([
      'DATABASE_URL',
      'PORT',
      'PURSER_RETURN_ORIGINS',
      'STRIPE_SECRET_KEY',
      'STRIPE_WEBHOOK_TOLERANCE_SECONDS',
    ]);
    for (const { problem, fix } of problems) {
      expect(problem).not.toBe('');
      expect(fix).toMatch(/\.$/);
    }
    const message = new SettingsError(problems).message;
    expect(message).toContain('5 settings are wrong');
    for (const { variable, fix } of problems) {
      expect(message).toContain(`${variable} `);
      expect(message).toContain(fix);
    }
  });

  it('never repeat a secret in what they report', () => {
    const secrets = {
      STRIPE_SECRET_KEY: 'sk_evil_topsecret',
      DATABASE_URL: 'https://u:topsecret@h/',
      PURSER_SERVICE_KEY: 'top secret',
      REDIS_URL: 'http://:topsecret@h/',
      STRIPE_WEBHOOK_SECRET: 'whsec topsecret',
      SMTP_URL: 'topsecret',
    };
    const text = JSON.stringify(problemsOf(secrets));
    expect(wrong(secrets)).toEqual(expect.arrayContaining(Object.keys(secrets)));
    expect(text).not.toMatch(/top ?secret/);
  });

  it('are frozen all the way down', () => {
    const { settings } = parseSettings({ PURSER_SERVICE_KEY: 'a,b' });
    expect(() => (settings.keys.service as string[]).push('c')).toThrow(TypeError);
    expect(() => Object.assign(settings.http, { port: 1 })).toThrow(TypeError);
  });

  it('take an empty string for nothing', () => {
    expect(parseSettings({ STRIPE_SECRET_KEY: '', PORT: ' ', PUBLIC_URL: '' }).settings.mode).toBe(
      'local',
    );
  });

  it('trim secrets and say so, without showing them', () => {
    const { settings, warnings } = parseSettings({
      STRIPE_SECRET_KEY: 'sk_test_123456\n',
      STRIPE_WEBHOOK_SECRET: ' whsec_123456 ',
      PUBLIC_URL: ' https://a.test/ ',
    });
    expect(settings.stripe).toMatchObject({
      secretKey: 'sk_test_123456',
      webhookSecrets: ['whsec_123456'],
    });
    expect(settings.http.publicUrl).toBe('https://a.test');
    expect(warnings).toHaveLength(2);
    expect(warnings.join()).not.toContain('123456');
  });

  it('know the aliases, and the first name wins', () => {
    const { settings, warnings } = parseSettings({
      DATABASE_URL: PRODUCTION.DATABASE_URL,
      SUPABASE_URL: 'https://p.supabase.co',
      SUPABASE_SERVICE_ROLE_KEY: 'old',
      SUPABASE_SECRET_KEY: 'sb_secret_new',
      SUPABASE_ANON_KEY: 'anon',
      EMAIL_FROM_NOTIFICATION: 'billing@example.com',
      SMTP_URL: 'smtp://localhost:1025',
    });
    expect(settings.supabase).toEqual({
      url: 'https://p.supabase.co',
      secretKey: 'sb_secret_new',
      publishableKey: 'anon',
    });
    expect(settings.mail.from).toBe('billing@example.com');
    expect(warnings.join()).toContain('SUPABASE_SERVICE_ROLE_KEY differs');
  });

  it('split keys at commas', () => {
    const { settings } = parseSettings({
      PURSER_SERVICE_KEY: 'one, two,,',
      STRIPE_SECRET_KEY: 'sk_test_123456',
      STRIPE_WEBHOOK_SECRET: 'whsec_1,whsec_2',
    });
    expect(settings.keys.service).toEqual(['one', 'two']);
    expect(settings.stripe.webhookSecrets).toEqual(['whsec_1', 'whsec_2']);
  });

  it.each([
    ['PORT', ['-1', '65536', 'http', '80.5', '1e3']],
    ['STRIPE_WEBHOOK_TOLERANCE_SECONDS', ['0', '-1', 'NaN', '300s', '1.5', '99999999']],
    ['PUBLIC_URL', ['localhost:3000', 'ftp://a.test', 'https://u:p@a.test', 'https://a.test/?x=1']],
    ['PURSER_RETURN_ORIGINS', ['*', 'a.test', 'https://a.test/path', 'https://*.a.test', 'null']],
    ['STRIPE_SECRET_KEY', ['whsec_1', 'sk_1', '"sk_test_123"', 'sk_test_1 2', 'pk_live_1']],
    ['DATABASE_URL', ['localhost/db', 'postgresql://u:[YOUR-PASSWORD]@h/db']],
    ['PURSER_TRUST_PROXY', ['true', '-1', 'evil.test', '1.2.3.4;']],
    ['LOG_LEVEL', ['verbose', 'silly']],
    ['PURSER_STRIPE', ['real', 'true']],
    ['PURSER_ALLOW_EMBEDDED', ['yes please', '2']],
    ['SLACK_WEBHOOK_URL', ['http://hooks.slack.com/x', 'file:///etc/passwd']],
    ['HOST', ['http://x', 'a b']],
    ['PURSER_SERVICE_KEY', ['a b', '"quoted"', ',', 'schlüssel']],
  ])('refuse a wrong %s', (variable, values) => {
    for (const value of values)
      expect({ value, wrong: wrong({ [variable]: value }) }).toEqual({
        value,
        wrong: expect.arrayContaining([variable]),
      });
  });

  it.each([
    ['0', 0],
    ['2', 2],
    ['10.0.0.0/8, loopback', ['10.0.0.0/8', 'loopback']],
  ])('take %s for the proxies in front', (value, expected) => {
    expect(parseSettings({ PURSER_TRUST_PROXY: value }).settings.http.trustProxy).toEqual(expected);
  });
});

describe('the choice of parts', () => {
  it('knows the mode of a Stripe key', () => {
    const mode = (key: string) =>
      parseSettings({ STRIPE_SECRET_KEY: key, STRIPE_WEBHOOK_SECRET: 'whsec_1' }).settings.mode;
    expect(mode('sk_test_123')).toBe('test');
    expect(mode('rk_live_123')).toBe('live');
  });

  it('does not start with a Stripe key and no webhook secret', () => {
    expect(wrong({ STRIPE_SECRET_KEY: 'sk_test_123' })).toEqual(['STRIPE_WEBHOOK_SECRET']);
    expect(wrong({ STRIPE_SECRET_KEY: 'sk_test_123', PURSER_STRIPE: 'sandbox' })).toEqual([]);
  });

  it('refuses the sandbox beside a live key', () => {
    expect(wrong({ STRIPE_SECRET_KEY: 'sk_live_123', PURSER_STRIPE: 'sandbox' })).toContain(
      'PURSER_STRIPE',
    );
    expect(wrong({ STRIPE_SECRET_KEY: 'rk_live_123', PURSER_STRIPE: 'sandbox' })).toContain(
      'PURSER_STRIPE',
    );
  });

  it('takes the servers that are named, a direct connection before an API', () => {
    const partsOf = (env: Record<string, string>) => parseSettings(env).settings.parts;
    const supabase = {
      SUPABASE_URL: 'https://p.supabase.co',
      SUPABASE_SECRET_KEY: 'sb_secret_0123456789',
    };
    const upstash = { KV_REST_API_URL: 'https://x.upstash.io', KV_REST_API_TOKEN: 't' };
    expect(partsOf({ ...supabase, ...upstash })).toMatchObject({
      database: 'supabase',
      redis: 'upstash',
    });
    const { DATABASE_URL } = PRODUCTION;
    expect(
      partsOf({ ...supabase, ...upstash, DATABASE_URL, REDIS_URL: 'redis://h:6379' }),
    ).toMatchObject({ database: 'pg', redis: 'tcp' });
  });

  it('is all embedded only without any real part', () => {
    expect(parseSettings({ DATABASE_URL: PRODUCTION.DATABASE_URL }).settings.allEmbedded).toBe(
      false,
    );
    const real = { STRIPE_SECRET_KEY: 'sk_test_123', STRIPE_WEBHOOK_SECRET: 'whsec_1' };
    expect(parseSettings(real).settings.allEmbedded).toBe(false);
  });

  it('warns of a server open to the network in which anybody can be any user', () => {
    expect(parseSettings({ HOST: '0.0.0.0' }).warnings.join()).toContain('act as any user');
    expect(parseSettings({ HOST: '127.0.0.1' }).warnings).toEqual([]);
  });
});

describe('identity settings', () => {
  it('come from the Supabase project', () => {
    const { identity } = parseSettings({
      SUPABASE_URL: 'https://p.supabase.co/',
      DATABASE_URL: PRODUCTION.DATABASE_URL,
      SUPABASE_JWT_SECRET: 'secret',
    }).settings;
    expect(identity.jwt?.jwksUrl).toBe('https://p.supabase.co/auth/v1/.well-known/jwks.json');
    expect(identity.hs256).toEqual({
      secret: 'secret',
      issuer: 'https://p.supabase.co/auth/v1',
      audience: ['authenticated'],
    });
  });

  it('name the half that is missing', () => {
    expect(wrong({ PURSER_JWKS_URL: 'https://id.test/jwks' })).toEqual(['PURSER_JWT_ISSUER']);
    expect(wrong({ PURSER_JWT_ISSUER: 'https://id.test' })).toEqual(['PURSER_JWKS_URL']);
  });

  it('refuse one key for two doors', () => {
    expect(wrong({ PURSER_SERVICE_KEY: 'a,b', PURSER_ADMIN_KEY: 'c,b' })).toEqual([
      'PURSER_ADMIN_KEY',
    ]);
  });
});

describe('production', () => {
  it('starts with everything in place', () => {
    expect(problemsOf(PRODUCTION)).toEqual([]);
  });

  const without = (name: keyof typeof PRODUCTION) => ({ ...PRODUCTION, [name]: undefined });
  const refused: [string, Record<string, string | undefined>, string][] = [
    [
      'a short service key',
      { ...PRODUCTION, PURSER_SERVICE_KEY: 'x'.repeat(31) },
      'PURSER_SERVICE_KEY',
    ],
    [
      'a short key among long ones',
      { ...PRODUCTION, PURSER_SERVICE_KEY: `${KEY('a')},short` },
      'PURSER_SERVICE_KEY',
    ],
    ['changeme', { ...PRODUCTION, PURSER_ADMIN_KEY: 'changeme' }, 'PURSER_ADMIN_KEY'],
    [
      'a short gateway secret',
      { ...PRODUCTION, PURSER_GATEWAY_SECRET: 'short' },
      'PURSER_GATEWAY_SECRET',
    ],
    ['a short cron secret', { ...PRODUCTION, CRON_SECRET: 'short' }, 'CRON_SECRET'],
    ['no service key', without('PURSER_SERVICE_KEY'), 'PURSER_SERVICE_KEY'],
    ['no admin key', without('PURSER_ADMIN_KEY'), 'PURSER_ADMIN_KEY'],
    ['no PUBLIC_URL', without('PUBLIC_URL'), 'PUBLIC_URL'],
    ['plain http', { ...PRODUCTION, PUBLIC_URL: 'http://credits.example.com' }, 'PUBLIC_URL'],
    ['the embedded mirror', without('PURSER_ALLOW_EMBEDDED'), 'PURSER_ALLOW_EMBEDDED'],
    ['no Stripe key', without('STRIPE_SECRET_KEY'), 'STRIPE_SECRET_KEY'],
    ['the sandbox', { ...PRODUCTION, PURSER_STRIPE: 'sandbox' }, 'PURSER_STRIPE'],
    [
      'the sandbox, also when embedded parts are allowed',
      { ...without('STRIPE_SECRET_KEY'), PURSER_STRIPE: 'sandbox' },
      'PURSER_STRIPE',
    ],
    [
      'tolerance 0',
      { ...PRODUCTION, STRIPE_WEBHOOK_TOLERANCE_SECONDS: '0' },
      'STRIPE_WEBHOOK_TOLERANCE_SECONDS',
    ],
  ];
  it.each(refused)('refuses %s', (_name, env, variable) => {
    expect(wrong(env)).toEqual(expect.arrayContaining([variable]));
  });

  it('allows the embedded database on purpose', () => {
    expect(wrong({ ...without('DATABASE_URL') })).toEqual([]);
    const problems = problemsOf({ ...without('DATABASE_URL'), PURSER_ALLOW_EMBEDDED: '0' });
    expect(problems[0]?.problem).toContain('the embedded database');
  });

  it('reports a wrong value once, not as missing too', () => {
    expect(
      wrong({ ...PRODUCTION, DATABASE_URL: 'x', STRIPE_SECRET_KEY: 'y', PUBLIC_URL: 'z' }).sort(),
    ).toEqual(['DATABASE_URL', 'PUBLIC_URL', 'STRIPE_SECRET_KEY']);
  });

  it('posts alerts to Slack and Discord, never to itself', () => {
    expect(
      wrong({
        ...PRODUCTION,
        SLACK_WEBHOOK_URL: 'http://127.0.0.1:8080/x',
        DISCORD_WEBHOOK_URL: 'https://discord.com/api/webhooks/1/x',
      }),
    ).toEqual(['SLACK_WEBHOOK_URL']);
    expect(wrong({ SLACK_WEBHOOK_URL: 'http://127.0.0.1:8080/x' })).toEqual([]);
  });

  it('sends mail one way', () => {
    const mail = { SMTP_URL: 'smtp://localhost:1025', EMAIL_FROM: 'a@example.com' };
    expect(wrong({ ...mail })).toEqual([]);
    expect(wrong({ ...mail, RESEND_API_KEY: 're_1' })).toEqual(['RESEND_API_KEY']);
  });

  it('may do without a cron secret, and says what that means', () => {
    expect(parseSettings(without('CRON_SECRET')).warnings.join()).toContain('/api/cron is closed');
  });

  it('is NODE_ENV=production and nothing else', () => {
    for (const NODE_ENV of ['development', 'test', 'prod', 'Production', undefined]) {
      expect(parseSettings({ NODE_ENV }).settings.production).toBe(false);
    }
  });
});

describe('a local server', () => {
  let dir: string;
  let before: NodeJS.ProcessEnv;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'purser-config-'));
    before = { ...process.env };
    for (const name of Object.keys(process.env)) {
      if (/^(PURSER|STRIPE|SUPABASE|DATABASE_URL|CRON|REDIS|PORT|PUBLIC_URL|NODE_ENV)/.test(name))
        delete process.env[name];
    }
    process.env.PURSER_DATA_DIR = join(dir, 'data');
  });
  afterEach(() => {
    process.env = before;
    rmSync(dir, { recursive: true });
  });

  const file = () => join(dir, 'data', 'keys.json');

  it('makes its keys once, in a file only its owner can read', () => {
    const first = loadSettings(join(dir, 'none'));
    expect(first.keysFile).toBe(file());
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(file(), 'utf8'))).toEqual({
      service_key: first.settings.keys.service[0],
      admin_key: first.settings.keys.admin[0],
      cron_secret: first.settings.keys.cron[0],
    });
    expect(first.settings.keys.service[0]?.length).toBeGreaterThan(32);
    expect(loadSettings(join(dir, 'none')).settings.keys).toEqual(first.settings.keys);
  });

  it('keeps to the keys it was given, and makes the others', () => {
    process.env.PURSER_SERVICE_KEY = 'mine';
    const { settings } = loadSettings(join(dir, 'none'));
    expect(settings.keys.service).toEqual(['mine']);
    expect(settings.keys.admin[0]).toMatch(/^purser_admin_/);
  });

  it('makes no file when it was given all, nor in production', () => {
    process.env.PURSER_SERVICE_KEY = 'a';
    process.env.PURSER_ADMIN_KEY = 'b';
    process.env.CRON_SECRET = 'c';
    expect(loadSettings(join(dir, 'none')).keysFile).toBeNull();
    Object.assign(process.env, PRODUCTION);
    delete process.env.CRON_SECRET;
    expect(loadSettings(join(dir, 'none')).keysFile).toBeNull();
    expect(existsSync(file())).toBe(false);
  });

  it('says what to do about a broken file of keys', () => {
    loadSettings(join(dir, 'none'));
    writeFileSync(file(), '{"service_key": 5');
    expect(() => loadSettings(join(dir, 'none'))).toThrow(/Delete .*keys\.json/);
  });

  it('closes a file of keys that others could read', () => {
    loadSettings(join(dir, 'none'));
    chmodSync(file(), 0o644);
    loadSettings(join(dir, 'none'));
    expect(statSync(file()).mode & 0o777).toBe(0o600);
  });

  it('says what to do when it cannot write', () => {
    writeFileSync(join(dir, 'data'), 'a file where the folder should be');
    expect(() => loadSettings(join(dir, 'none'))).toThrow(/PURSER_DATA_DIR {2}cannot keep/);
  });

  it('reads .env, and what is set already wins', () => {
    writeFileSync(
      join(dir, '.env'),
      'PORT=4001\nPURSER_SERVICE_KEY="from the file"\nLOG_LEVEL=warn\n',
    );
    const config = join(import.meta.dirname, '../../src/config.ts');
    const script = `
      import { loadSettings } from ${JSON.stringify(config)};
      const { http, keys, logLevel } = loadSettings().settings;
      console.log(JSON.stringify([http.port, keys.service, logLevel]));
    `;
    // A process of its own: a test runner's process.env is a copy that .env does not reach.
    const args = ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', script];
    const output = execFileSync(process.execPath, args, {
      cwd: dir,
      env: { PATH: before.PATH, PURSER_SERVICE_KEY: 'mine' },
    });
    expect(JSON.parse(String(output))).toEqual([4001, ['mine'], 'warn']);
  });
});
