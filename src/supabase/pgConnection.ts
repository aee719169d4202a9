/** Reads a connection string the way Postgres' own clients do. */
import type pg from 'pg';
import { PurserError } from '../core/errors.ts';

/**
 * The configuration for `pg`. `sslmode` has the meaning Postgres documents: `require` encrypts
 * without checking who answers (what Supabase's copied strings rely on), `verify-full` checks.
 * Without this switch `pg` 8 would treat `require` as `verify-full`.
 */
export function connectionConfig(connectionString: string): pg.ClientConfig {
  let url: URL;
  try {
    url = new URL(connectionString);
  } catch {
    // The text itself is not shown: it holds the password.
    throw invalid('it is not a URL (is a special character of the password not percent-encoded?)');
  }
  if (url.protocol !== 'postgresql:' && url.protocol !== 'postgres:') {
    throw invalid(`it begins with ${url.protocol}// instead of postgresql://`);
  }
  const mode = url.searchParams.get('sslmode');
  if (mode === 'verify-ca' && !url.searchParams.has('sslrootcert')) {
    throw invalid('sslmode=verify-ca needs sslrootcert; use verify-full for a public certificate');
  }
  if (mode !== null && mode !== 'no-verify' && !url.searchParams.has('uselibpqcompat')) {
    url.searchParams.set('uselibpqcompat', 'true');
  }
  return { connectionString: url.toString() };
}

function invalid(why: string): PurserError {
  return new PurserError('dependency_down', {
    detail:
      `DATABASE_URL is not valid: ${why}. ` +
      'It looks like postgresql://user:password@host:5432/database?sslmode=require.',
  });
}
