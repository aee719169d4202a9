/** Start-up truth: what is said about each mis-setting of Supabase. */
import { describe, expect, it } from '@jest/globals';
import { parseSettings, SettingsError } from '../../src/config.ts';
import { signJwt } from '../support/postgrestTokens.ts';

const URL = 'https://abcdefghijklmnopqrst.supabase.co';
const jwt = (claims: Record<string, unknown>) =>
  signJwt('any-secret-of-32-characters-0123', claims);

function problemsOf(env: Record<string, string>): string {
  try {
    parseSettings(env);
    return '';
  } catch (error) {
    if (error instanceof SettingsError) return error.message;
    throw error;
  }
}

describe('the settings of Supabase', () => {
  it('are enough by themselves, with a key of either family', async () => {
    for (const name of ['SUPABASE_SECRET_KEY', 'SUPABASE_SERVICE_ROLE_KEY']) {
      for (const key of ['sb_secret_abc', await jwt({ role: 'service_role' })]) {
        const { settings } = parseSettings({ SUPABASE_URL: `${URL}/`, [name]: key });
        expect(settings.parts.database).toBe('supabase');
        expect(settings.supabase).toMatchObject({ url: URL, secretKey: key });
      }
    }
  });

  it('lose a newline at the end of a key, with a warning', () => {
    const { settings, warnings } = parseSettings({
      SUPABASE_URL: URL,
      SUPABASE_SECRET_KEY: 'sb_secret_abc\n',
    });
    expect(settings.supabase?.secretKey).toBe('sb_secret_abc');
    expect(warnings.join()).toMatch(/SUPABASE_SECRET_KEY had white space or a newline/);
  });

  it.each<[string, () => Record<string, string> | Promise<Record<string, string>>, RegExp]>([
    ['no key', () => ({}), /SUPABASE_SECRET_KEY\s+is missing while SUPABASE_URL is set/],
    [
      'a publishable key',
      () => ({ SUPABASE_SECRET_KEY: 'sb_publishable_abc' }),
      /SUPABASE_SECRET_KEY\s+is a publishable key/,
    ],
    [
      'the anon key',
      async () => ({ SUPABASE_SECRET_KEY: await jwt({ role: 'anon' }) }),
      /is the anon key instead of the service_role key/,
    ],
    [
      'the key of another project',
      async () => ({
        SUPABASE_SECRET_KEY: await jwt({ role: 'service_role', ref: 'tsrqponmlkjihgfedcba' }),
      }),
      /belongs to the project tsrqponmlkjihgfedcba, but SUPABASE_URL names abcdefghijklmnopqrst/,
    ],
    [
      'a newline within',
      () => ({ SUPABASE_SECRET_KEY: 'sb_secret_a\nb' }),
      /SUPABASE_SECRET_KEY\s+contains white space/,
    ],
    [
      'swapped keys',
      () => ({ SUPABASE_SECRET_KEY: 'sb_publishable_a', SUPABASE_PUBLISHABLE_KEY: 'sb_secret_b' }),
      /SUPABASE_PUBLISHABLE_KEY\s+holds a secret key[\s\S]*SUPABASE_SECRET_KEY\s+is a publishable key/,
    ],
  ])('with %s are refused by name, without showing a key', async (_what, make, words) => {
    const env = await make();
    const text = problemsOf({ SUPABASE_URL: URL, ...env });
    expect(text).toMatch(words);
    for (const key of Object.values(env)) expect(text).not.toContain(key);
  });

  it.each([
    [`${URL}/rest/v1`, `fix: Set it to ${URL}.`],
    [`${URL}/auth/v1/`, `fix: Set it to ${URL}.`],
    ['https://supabase.com/dashboard/project/abcdefghijklmnopqrst', `fix: Set it to ${URL}.`],
    ['https://aws-0-eu-west-1.pooler.supabase.com:6543', 'is the address of Postgres itself'],
  ])('name the right address instead of %s', (url, words) => {
    const text = problemsOf({ SUPABASE_URL: url, SUPABASE_SECRET_KEY: 'sb_secret_abc' });
    expect(text).toContain('SUPABASE_URL');
    expect(text).toContain(words);
  });

  it('need no key beside DATABASE_URL, which wins', () => {
    const { settings } = parseSettings({
      SUPABASE_URL: URL,
      DATABASE_URL: 'postgresql://u:p@db.example.com:5432/postgres',
    });
    expect(settings.parts.database).toBe('pg');
  });
});
