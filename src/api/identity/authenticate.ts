import type { Request } from 'express';
import { PurserError } from '../../core/errors.ts';
import type { Logger } from '../../core/ports.ts';
import type { RouteAuth } from '../contract/declareRoute.ts';
import { type GatewayOptions, readGatewayUser } from './gateway.ts';
import { type Identity, type UserIdentity, unauthenticated } from './identity.ts';
import type { KeyRing } from './keys.ts';
import type { TokenVerifier } from './tokens.ts';

export interface AuthenticateDeps {
  keys: KeyRing;
  tokens: TokenVerifier;
  gateway: GatewayOptions;
  logger: Logger;
  /** False only where the cron routes have no secret in production and are closed. */
  cronOpen: boolean;
}

/** The credential of the Authorization header; null when there is none. */
export function readBearer(request: Request): string | null {
  const values = request.headersDistinct.authorization;
  if (values === undefined) return null;
  if (values.length > 1) throw unauthenticated('Authorization was sent more than once.');
  const match = /^Bearer +(\S+) *$/i.exec(values[0] ?? '');
  if (match?.[1] === undefined) throw unauthenticated('Authorization must be "Bearer <token>".');
  return match[1];
}

/** Decides only which limit counts the request; what is wrong with it is said later. */
export function holdsServiceKey({ keys }: AuthenticateDeps, request: Request): boolean {
  const credential = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
  return credential !== undefined && keys.find(credential)?.kind === 'service';
}

/** Three dot-separated parts: worth verifying as a token. Our own keys never look like it. */
const looksLikeToken = (credential: string) => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(credential);

const WANTED: Record<RouteAuth, string> = {
  public: '',
  webhook: '',
  user: "a user's access token",
  'optional-user': "a user's access token",
  service: 'PURSER_SERVICE_KEY',
  admin: 'PURSER_ADMIN_KEY, or the access token of an admin',
  cron: 'CRON_SECRET',
  metrics: 'PURSER_METRICS_KEY, PURSER_ADMIN_KEY or PURSER_SERVICE_KEY',
};

function missing(auth: RouteAuth): PurserError {
  return unauthenticated(
    `This route takes ${WANTED[auth]}, sent as "Authorization: Bearer <token>".`,
  );
}

async function identify(
  deps: AuthenticateDeps,
  request: Request,
  auth: RouteAuth,
): Promise<Identity | null> {
  const credential = readBearer(request);
  if (credential === null) {
    return auth === 'user' || auth === 'optional-user'
      ? readGatewayUser(request, deps.gateway)
      : null;
  }
  if (request.headers['x-user-id'] !== undefined) {
    deps.logger.warn('x-user-id is ignored: the request carries a credential of its own');
  }
  const key = deps.keys.find(credential);
  if (key !== null) return key;
  if (looksLikeToken(credential)) return deps.tokens.verify(credential);
  throw unauthenticated(`The credential is not known. This route takes ${WANTED[auth]}.`);
}

const isAdminUser = (identity: Identity) => identity.kind === 'user' && identity.admin;

function mayUse(identity: Identity, auth: RouteAuth): boolean {
  switch (auth) {
    case 'user':
    case 'optional-user':
      return identity.kind === 'user';
    case 'admin':
      return identity.kind === 'admin' || isAdminUser(identity);
    case 'metrics':
      // It tells business numbers: whoever reads them has a key, from loopback as well, where a
      // proxy on this machine would make everybody look like a neighbour.
      return ['metrics', 'admin', 'service'].includes(identity.kind) || isAdminUser(identity);
    case 'service':
    case 'cron':
      return identity.kind === auth;
    default:
      return true;
  }
}

/**
 * Who calls, if that one may use the route. A credential that is present and wrong is refused,
 * never taken for no credential.
 * Errors: `unauthenticated`, `forbidden` (known, but not for this door), `dependency_down`.
 */
export async function authenticate(
  deps: AuthenticateDeps,
  request: Request,
  auth: RouteAuth,
): Promise<Identity | null> {
  if (auth === 'public' || auth === 'webhook') return null;
  if (auth === 'cron' && !deps.cronOpen) {
    throw new PurserError('dependency_down', {
      detail: 'The cron routes are closed: CRON_SECRET is not set on this server.',
      retryAfterSeconds: 3_600,
    });
  }
  const identity = await identify(deps, request, auth);
  if (identity === null) {
    if (auth === 'optional-user') return null;
    throw missing(auth);
  }
  if (!mayUse(identity, auth)) {
    throw new PurserError('forbidden', {
      detail: `This route takes ${WANTED[auth]}, and the credential is for something else.`,
    });
  }
  return identity;
}

export function isUser(identity: Identity | null): identity is UserIdentity {
  return identity?.kind === 'user';
}
