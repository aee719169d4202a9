/**
 * What is wrong with a Supabase address or key, in words for the person who set it. Asked at
 * start, and again by the adapter, whose errors name the likely cause. Shows no key.
 */

export interface SupabaseFault {
  /** Reads on after the name of the variable. */
  problem: string;
  fix: string;
}

const URL_FIX = 'Set it as https://<project>.supabase.co (Supabase: Project settings, Data API).';
const KEY_FIX =
  'Copy a secret key (sb_secret_...) or the legacy service_role key from Supabase: Project settings, API keys.';
/** Services of a project; the client appends them to the project's address itself. */
const SERVICE_PATH = /\/(?:rest|auth|storage|functions|realtime)(?:\/v1)?(?:\/.*)?$/;

export function findSupabaseUrlFault(text: string): SupabaseFault | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    return { problem: 'is not an http(s) address', fix: URL_FIX };
  }
  if (url.hostname === 'supabase.com' || url.hostname === 'app.supabase.com') {
    const ref = /\/project\/([a-z]{20})/.exec(url.pathname)?.[1];
    return {
      problem: 'is the address of the dashboard',
      fix: ref === undefined ? URL_FIX : `Set it to https://${ref}.supabase.co.`,
    };
  }
  if (
    /^db\.\w+\.supabase\.co$/.test(url.hostname) ||
    url.hostname.endsWith('pooler.supabase.com')
  ) {
    return { problem: 'is the address of Postgres itself, not of the API', fix: URL_FIX };
  }
  if (url.username !== '' || url.search !== '' || url.hash !== '') {
    return { problem: 'has a query, a fragment or a password in it', fix: URL_FIX };
  }
  const service = SERVICE_PATH.exec(url.pathname)?.[0];
  if (service === undefined) return null;
  const project = `${url.origin}${url.pathname.slice(0, -service.length)}`;
  return {
    problem: `ends with ${service}, which Purser adds itself`,
    fix: `Set it to ${project}.`,
  };
}

/** Judges a key that is to act as `service_role` for the project at `url`. */
export function findSupabaseKeyFault(
  key: string,
  url: string,
  nowSeconds: number,
): SupabaseFault | null {
  if (!/^[\x21-\x7e]+$/.test(key)) {
    return {
      problem: 'is empty, or has white space, a newline or a character that is not plain ASCII',
      fix: KEY_FIX,
    };
  }
  if (key.startsWith('sb_secret_')) return null;
  if (key.startsWith('sb_publishable_')) {
    return { problem: 'is a publishable key, which may do nothing here', fix: KEY_FIX };
  }
  if (key.startsWith('sbp_')) {
    return {
      problem: 'is an access token of the Supabase account, not of a project',
      fix: KEY_FIX,
    };
  }
  const claims = readClaims(key);
  if (claims === null) {
    return {
      problem: 'is neither a secret key (sb_secret_...) nor a service_role key',
      fix: KEY_FIX,
    };
  }
  if (claims.role !== 'service_role') {
    const role =
      typeof claims.role === 'string' ? `the ${claims.role} key` : 'a key without a role';
    return { problem: `is ${role} instead of the service_role key`, fix: KEY_FIX };
  }
  if (typeof claims.exp === 'number' && claims.exp <= nowSeconds) {
    return { problem: 'is a key that has expired', fix: KEY_FIX };
  }
  const project = /^([a-z]{20})\.supabase\.co$/.exec(new URL(url).hostname)?.[1];
  if (project !== undefined && typeof claims.ref === 'string' && claims.ref !== project) {
    return {
      problem: `belongs to the project ${claims.ref}, but SUPABASE_URL names ${project}`,
      fix: 'Copy both from the same project.',
    };
  }
  return null;
}

/** True for keys that open the whole database, which must never reach a browser. */
export function isSupabaseSecretKey(key: string): boolean {
  return key.startsWith('sb_secret_') || readClaims(key)?.role === 'service_role';
}

/** The claims of a JWT, unverified: they only serve to explain. */
function readClaims(key: string): Record<string, unknown> | null {
  const parts = key.split('.');
  if (parts.length !== 3 || !key.startsWith('eyJ')) return null;
  try {
    const claims: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString());
    return claims !== null && typeof claims === 'object' ? (claims as never) : null;
  } catch {
    return null; // not a JWT, which is the answer
  }
}
