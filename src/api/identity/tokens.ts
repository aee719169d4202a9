import {
  createRemoteJWKSet,
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
} from 'jose';
import { z } from 'zod';
import type { Settings } from '../../config.ts';
import { PurserError } from '../../core/errors.ts';
import type { Clock } from '../../core/ports.ts';
import { userIdSchema } from '../contract/primitives.ts';
import { type UserIdentity, unauthenticated } from './identity.ts';

/** Verifies users' access tokens. */
export interface TokenVerifier {
  /**
   * Errors: `unauthenticated` for any token that is not good, `dependency_down` when the
   * issuer's keys cannot be had: then nobody knows whether the token is good.
   */
  verify(token: string): Promise<UserIdentity>;
}

/** Supabase caches its key set at the edge for as long; longer would outlive a rotation. */
const JWKS_CACHE_MS = 600_000;
/** At most one fetch per this time for unknown key ids, which strangers can make up. */
const JWKS_COOLDOWN_MS = 30_000;
const JWKS_TIMEOUT_MS = 3_000;
const CLOCK_TOLERANCE_SECONDS = 5;
const JWKS_RETRY_AFTER_SECONDS = 5;

/** Asymmetric only: with HS256 here, a public key would be a signing key. */
const ASYMMETRIC_ALGORITHMS = ['ES256', 'RS256', 'EdDSA', 'Ed25519'];

const claimsSchema = z.object({
  sub: userIdSchema,
  email: z.string().min(3).max(254).optional().catch(undefined),
  is_anonymous: z.boolean().optional().catch(undefined),
  app_metadata: z.object({ role: z.unknown() }).partial().optional().catch(undefined),
});

function toIdentity(payload: JWTPayload): UserIdentity {
  const claims = claimsSchema.safeParse(payload);
  if (!claims.success) {
    throw unauthenticated('The access token names no usable user: its sub claim is not valid.');
  }
  const { sub, email, is_anonymous, app_metadata } = claims.data;
  return {
    kind: 'user',
    userId: sub,
    email: email ?? null,
    admin: app_metadata?.role === 'admin',
    anonymous: is_anonymous === true,
    actor: `user:${sub}`,
  };
}

/** What to tell the caller; the reason helps the owner of a token and no one else. */
function describeFailure(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'The access token has expired. Sign in again.';
  if (error instanceof errors.JWTClaimValidationFailed) {
    return `The access token is not meant for this server: its ${error.claim} claim does not fit.`;
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return 'The access token was signed with a key its issuer does not publish.';
  }
  return 'The access token is not valid.';
}

/**
 * jose throws its own errors for what is wrong with a token. Everything else met on the way (no
 * connection, a time-out, an answer that is no key set) is the key set's outage.
 */
function isTokenFault(error: unknown): boolean {
  return (
    error instanceof errors.JOSEError &&
    !(error instanceof errors.JWKSTimeout) &&
    !(error instanceof errors.JWKSInvalid) &&
    error.code !== 'ERR_JOSE_GENERIC'
  );
}

export function createTokenVerifier({
  settings,
  clock,
}: {
  settings: Pick<Settings, 'identity'>;
  clock: Clock;
}): TokenVerifier {
  const { jwt, hs256 } = settings.identity;
  const remoteKeys: JWTVerifyGetKey | null = jwt
    ? createRemoteJWKSet(new URL(jwt.jwksUrl), {
        cacheMaxAge: JWKS_CACHE_MS,
        cooldownDuration: JWKS_COOLDOWN_MS,
        timeoutDuration: JWKS_TIMEOUT_MS,
      })
    : null;
  const sharedSecret = hs256 ? new TextEncoder().encode(hs256.secret) : null;

  function options(
    algorithms: string[],
    issuer: string | null,
    audience: readonly string[],
  ): JWTVerifyOptions {
    return {
      algorithms,
      audience: [...audience],
      ...(issuer === null ? {} : { issuer }),
      // Without `exp` a leaked token would be good for ever.
      requiredClaims: ['sub', 'exp'],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      currentDate: clock.now(),
    };
  }

  async function verifyBy(algorithm: string | undefined, token: string): Promise<JWTPayload> {
    if (algorithm === 'HS256' && hs256 !== null && sharedSecret !== null) {
      const { issuer, audience } = hs256;
      return (await jwtVerify(token, sharedSecret, options(['HS256'], issuer, audience))).payload;
    }
    if (remoteKeys !== null && jwt !== null) {
      const { issuer, audience } = jwt;
      const verified = await jwtVerify(
        token,
        remoteKeys,
        options(ASYMMETRIC_ALGORITHMS, issuer, audience),
      );
      return verified.payload;
    }
    throw unauthenticated(
      algorithm === 'HS256' || hs256 === null
        ? 'This server takes no such access tokens. Set SUPABASE_URL, PURSER_JWT_ISSUER with PURSER_JWKS_URL, or SUPABASE_JWT_SECRET.'
        : 'The access token is signed with an algorithm this server does not take.',
    );
  }

  return {
    async verify(token) {
      let algorithm: string | undefined;
      try {
        algorithm = decodeProtectedHeader(token).alg;
      } catch (cause) {
        throw unauthenticated('The credential is not an access token.', cause);
      }
      let payload: JWTPayload;
      try {
        payload = await verifyBy(algorithm, token);
      } catch (cause) {
        if (cause instanceof PurserError) throw cause;
        if (isTokenFault(cause)) throw unauthenticated(describeFailure(cause), cause);
        throw new PurserError('dependency_down', {
          detail: 'The issuer’s keys could not be fetched, so access tokens cannot be checked.',
          retryAfterSeconds: JWKS_RETRY_AFTER_SECONDS,
          cause,
        });
      }
      return toIdentity(payload);
    },
  };
}
