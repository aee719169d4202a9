import { describe, expect, it } from '@jest/globals';
import { connectionConfig } from '../../src/supabase/pgConnection.ts';

const base = 'postgresql://postgres.ref:pw@pooler.example.com:6543/postgres';

describe('connectionConfig', () => {
  it.each(['disable', 'prefer', 'require', 'verify-full'])(
    'gives sslmode=%s the meaning Postgres documents',
    (mode) => {
      const { connectionString } = connectionConfig(`${base}?sslmode=${mode}`);
      const url = new URL(connectionString ?? '');
      expect(url.searchParams.get('sslmode')).toBe(mode);
      expect(url.searchParams.get('uselibpqcompat')).toBe('true');
    },
  );

  it('leaves an address alone that says nothing of TLS, or says how it wants to be read', () => {
    for (const text of [
      base,
      `${base}?sslmode=no-verify`,
      `${base}?sslmode=require&uselibpqcompat=false`,
    ]) {
      expect(connectionConfig(text).connectionString).toBe(text);
    }
  });

  it('keeps an encoded password as it is', () => {
    const text = 'postgresql://u:p%40ss%2Fw%25rd@h/db?sslmode=require';
    expect(connectionConfig(text).connectionString).toContain('u:p%40ss%2Fw%25rd@h');
  });

  it('says what verify-ca needs', () => {
    expect(() => connectionConfig(`${base}?sslmode=verify-ca`)).toThrow(/sslrootcert/);
  });
});
