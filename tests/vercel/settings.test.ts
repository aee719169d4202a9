import { describe, expect, it } from '@jest/globals';
import type { SettingProblem } from '../../src/config/settingsError.ts';
import { SettingsError } from '../../src/config.ts';
import { loadVercelSettings } from '../../src/vercel/vercelSettings.ts';

const key = (name: string) => `${name}-0123456789-0123456789-0123456789`;
const REF = 'abcdefghijklmnopqrst';

/** What the integrations of Supabase and Upstash set, and what their owner adds. */
const PROJECT = {
  VERCEL: '1',
  VERCEL_ENV: 'production',
  VERCEL_URL: 'purser-abc123.vercel.app',
  VERCEL_BRANCH_URL: 'purser-git-main.vercel.app',
  VERCEL_PROJECT_PRODUCTION_URL: 'credits.example.com',
  SUPABASE_URL: `https://${REF}.supabase.co`,
  SUPABASE_SECRET_KEY: 'sb_secret_0123456789',
  KV_REST_API_URL: 'https://apt-fox-12345.upstash.io',
  KV_REST_API_TOKEN: 'token',
  REDIS_URL: 'rediss://default:token@apt-fox-12345.upstash.io:6379',
  STRIPE_SECRET_KEY: 'sk_live_0123456789',
  STRIPE_WEBHOOK_SECRET: 'whsec_0123456789',
  PURSER_SERVICE_KEY: key('service'),
  PURSER_ADMIN_KEY: key('admin'),
  CRON_SECRET: key('cron'),
};

function problemsOf(env: Record<string, string | undefined>): readonly SettingProblem[] {
  try {
    loadVercelSettings(env);
  } catch (error) {
    if (error instanceof SettingsError) return error.problems;
    throw error;
  }
  return [];
}
const wrong = (env: Record<string, string | undefined>) =>
  problemsOf(env).map(({ variable }) => variable);

describe('settings on Vercel', () => {
  it('are what the integrations set, under the rules of production', () => {
    const { settings } = loadVercelSettings(PROJECT);
    expect(settings).toMatchObject({
      production: true,
      parts: { database: 'supabase', redis: 'upstash', stripe: 'stripe' },
      http: { publicUrl: 'https://credits.example.com', trustProxy: 1 },
    });
  });

  it.each([
    ['the domain in production', {}, 'https://credits.example.com'],
    [
      'the address of the branch in a preview',
      { VERCEL_ENV: 'preview' },
      'https://purser-git-main.vercel.app',
    ],
    [
      'the address of the deployment without a branch',
      { VERCEL_ENV: 'preview', VERCEL_BRANCH_URL: undefined },
      'https://purser-abc123.vercel.app',
    ],
    ['PUBLIC_URL where it is set', { PUBLIC_URL: 'https://a.test' }, 'https://a.test'],
  ])('send buyers back to %s', (_name, env, expected) => {
    expect(loadVercelSettings({ ...PROJECT, ...env }).settings.http.publicUrl).toBe(expected);
  });

  it.each([
    ['no Supabase project', { SUPABASE_URL: undefined }, 'SUPABASE_URL'],
    ['no Redis that instances share', { KV_REST_API_URL: '' }, 'UPSTASH_REDIS_REST_URL'],
    ['no Stripe key', { STRIPE_SECRET_KEY: undefined }, 'STRIPE_SECRET_KEY'],
    ['the sandbox', { PURSER_STRIPE: 'sandbox' }, 'PURSER_STRIPE'],
    ['several cron secrets', { CRON_SECRET: `${key('a')},${key('b')}` }, 'CRON_SECRET'],
    [
      'a database besides the project',
      { DATABASE_URL: 'postgresql://u:p@ep-cool.neon.tech/db' },
      'DATABASE_URL',
    ],
  ])('refuse %s, once', (_name, env, variable) => {
    expect(wrong({ ...PROJECT, ...env })).toEqual([variable]);
  });

  it.each([
    `postgresql://postgres:pw@db.${REF}.supabase.co:5432/postgres`,
    `postgresql://postgres.${REF}:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres`,
  ])('leave the connection string of the same project to the migration', (DATABASE_URL) => {
    const { settings } = loadVercelSettings({ ...PROJECT, DATABASE_URL });
    expect(settings.parts.database).toBe('supabase');
  });

  it('are told all at once', () => {
    expect(wrong({ STRIPE_WEBHOOK_SECRET: 'we_123' }).sort()).toEqual([
      'PUBLIC_URL',
      'PURSER_ADMIN_KEY',
      'PURSER_SERVICE_KEY',
      'STRIPE_SECRET_KEY',
      'STRIPE_WEBHOOK_SECRET',
      'SUPABASE_URL',
      'UPSTASH_REDIS_REST_URL',
    ]);
  });
});
