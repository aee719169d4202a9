/** Who calls: API keys at the gateway, and the token PostgREST reads role and claims from. */
import { errors, jwtVerify, SignJWT } from 'jose';
import { ApiError } from './postgrestErrors.ts';

/** The API keys of a project: both families. */
export interface ProjectKeys {
  secret: string;
  publishable: string;
  serviceRole: string;
  anon: string;
}

export interface Caller {
  role: string;
  claims: Record<string, unknown>;
  /** The token named a role: a lack of rights is then 403, else 401. */
  authenticated: boolean;
}

const CLOCK_SKEW_SECONDS = 30;
const TEN_YEARS_SECONDS = 315_360_000;

export function signJwt(
  secret: string,
  claims: Record<string, unknown>,
  expiresInSeconds: number | null = 3600,
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const token = new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).setIssuedAt();
  if (expiresInSeconds !== null) token.setExpirationTime(now + expiresInSeconds);
  return token.sign(new TextEncoder().encode(secret));
}

export async function makeKeys(jwtSecret: string, ref: string): Promise<ProjectKeys> {
  const legacy = (role: string) =>
    signJwt(jwtSecret, { iss: 'supabase', ref, role }, TEN_YEARS_SECONDS);
  return {
    secret: `sb_secret_${ref}_0123456789abcdef`,
    publishable: `sb_publishable_${ref}_0123456789`,
    serviceRole: await legacy('service_role'),
    anon: await legacy('anon'),
  };
}

/** PostgREST's own reading of `Authorization`; no token means the anonymous role. */
export async function readCaller(
  authorization: string | undefined,
  jwtSecret: string,
): Promise<Caller> {
  const token = /^bearer(?:\s+(.*))?$/i.exec(authorization ?? '')?.[1];
  if (authorization === undefined || !/^bearer/i.test(authorization)) return anonymous({});
  const claims = await verify(token?.trim() ?? '', jwtSecret);
  const role = claims.role;
  if (typeof role !== 'string') return anonymous(claims);
  return { role, claims, authenticated: true };
}

function anonymous(claims: Record<string, unknown>): Caller {
  return { role: 'anon', claims, authenticated: false };
}

async function verify(token: string, secret: string): Promise<Record<string, unknown>> {
  if (token === '') throw invalid('PGRST301', 'Empty JWT is sent in Authorization header');
  const parts = token.split('.').length;
  if (parts !== 3) throw invalid('PGRST301', `Expected 3 parts in JWT; got ${parts}`);
  try {
    const { payload } = await jwtVerify(token, new TextEncoder().encode(secret), {
      algorithms: ['HS256'],
      clockTolerance: CLOCK_SKEW_SECONDS,
    });
    return payload;
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw invalid('PGRST303', 'JWT expired');
    if (error instanceof errors.JWTClaimValidationFailed) {
      throw invalid('PGRST303', 'JWT not yet valid');
    }
    throw invalid(
      'PGRST301',
      'No suitable key or wrong key type',
      'None of the keys was able to decode the JWT',
    );
  }
}

function invalid(code: string, message: string, details: string | null = null): ApiError {
  const challenge = `Bearer error="invalid_token", error_description="${message}"`;
  return new ApiError(401, { code, message, details }, { 'www-authenticate': challenge });
}
