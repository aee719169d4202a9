import type { Request, RequestHandler, Response } from 'express';
import { ipKeyGenerator, type Options, rateLimit, type Store } from 'express-rate-limit';
import { PurserError } from '../core/errors.ts';
import { createSharedCount, createSharedStore, type SharedCountDeps } from './sharedLimit.ts';

const WINDOW_SECONDS = 60;
const WINDOW_MS = WINDOW_SECONDS * 1000;

/**
 * Requests a minute. The webhook route has no limit: a valid signature is never refused.
 *
 * The first two guard a process against being drowned, and each process counts for itself: they
 * stand before every request, where a count in Redis would be a second round trip of a check that
 * is allowed one. The other two are rare, each is a guess at a key or a call to Stripe, and they
 * are counted in Redis for all processes together; see sharedLimit.ts.
 */
export const LIMITS = {
  /** Per address and process, for everything but a valid service key. */
  perAddress: 3_000,
  /** Per service key and process: a bound on runaway loops, far above what one server answers. */
  perServiceKey: 600_000,
  /** Wrong keys on service, admin and cron routes, per address; shared. */
  wrongKeysPerAddress: 10,
  /** Checkout sessions per user, each asks Stripe; shared. */
  checkoutsPerUser: 60,
} as const;

function createLimit(
  name: string,
  limit: number,
  keyGenerator: (request: Request, response: Response) => string,
  refuse: (retryAfterSeconds: number) => PurserError,
  /** Left out: the library's own, in this process. */
  store?: Store,
): RequestHandler {
  const options: Partial<Options> = {
    ...(store === undefined ? {} : { store }),
    windowMs: WINDOW_MS,
    limit,
    identifier: name,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    keyGenerator,
    // It warns on the console about forwarded addresses we leave unread on purpose.
    validate: { xForwardedForHeader: false, trustProxy: false },
    handler: (_request, response, next) => {
      const retryAfter = Number(response.getHeader('Retry-After'));
      next(refuse(Number.isFinite(retryAfter) && retryAfter > 0 ? retryAfter : WINDOW_SECONDS));
    },
  };
  return rateLimit(options);
}

/** IPv6 networks count as one address: whoever has one has 2^64. */
const addressOf = (request: Request) => ipKeyGenerator(request.ip ?? 'unknown');

function tooMany(what: string, limit: number) {
  return (retryAfterSeconds: number) =>
    new PurserError('rate_limited', {
      detail: `More than ${limit} ${what} in a minute. Try again in ${retryAfterSeconds} seconds.`,
      retryAfterSeconds,
    });
}

export interface RateLimits {
  /** Counts a request against its address. */
  address: RequestHandler;
  /** Counts a request against the key its caller was found to hold. */
  serviceKey: RequestHandler;
  /** Counts a wrong key; valid ones are never held up by it. */
  wrongKey: RequestHandler;
  checkout: RequestHandler;
}

export function createRateLimits(deps: SharedCountDeps): RateLimits {
  const count = createSharedCount(deps);
  const shared = (name: string, limit: number) =>
    createSharedStore(count, { name, limit, windowSeconds: WINDOW_SECONDS });
  const actorOf = (_request: Request, response: Response) => String(response.locals.actor);
  return {
    address: createLimit(
      'per-address',
      LIMITS.perAddress,
      addressOf,
      tooMany('requests from this address', LIMITS.perAddress),
    ),
    serviceKey: createLimit(
      'per-service-key',
      LIMITS.perServiceKey,
      actorOf,
      tooMany('requests with this key', LIMITS.perServiceKey),
    ),
    wrongKey: createLimit(
      'wrong-keys',
      LIMITS.wrongKeysPerAddress,
      addressOf,
      tooMany('wrong keys from this address', LIMITS.wrongKeysPerAddress),
      shared('wrong-keys', LIMITS.wrongKeysPerAddress),
    ),
    checkout: createLimit(
      'checkouts',
      LIMITS.checkoutsPerUser,
      actorOf,
      tooMany('checkouts of one user', LIMITS.checkoutsPerUser),
      shared('checkouts', LIMITS.checkoutsPerUser),
    ),
  };
}

/** Runs a limit outside the middleware chain. Errors: `rate_limited`. */
export function applyLimit(
  limit: RequestHandler,
  request: Request,
  response: Response,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = limit(request, response, (error: unknown) =>
      error ? reject(error) : resolve(),
    );
    // A store that fails rejects the handler's own promise instead of calling next.
    Promise.resolve(settle).catch(reject);
  });
}
