import cors from 'cors';
import type { RequestHandler } from 'express';
import helmet from 'helmet';
import type { AppDeps } from './deps.ts';

/** Where our pages send buyers: forms that post to us are redirected there. */
const STRIPE_PAGES = ['https://checkout.stripe.com', 'https://billing.stripe.com'];

const PREFLIGHT_SECONDS = 600;

/** One strict policy for API and pages: nothing inline, nothing foreign, never framed. */
export function securityHeaders({
  settings,
  formOrigins = [],
}: Pick<AppDeps, 'settings' | 'formOrigins'>): RequestHandler {
  const https = settings.http.publicUrl?.startsWith('https://') ?? false;
  return helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'self'"],
        'base-uri': ["'none'"],
        'object-src': ["'none'"],
        'frame-ancestors': ["'none'"],
        'img-src': ["'self'", 'data:'],
        'form-action': ["'self'", ...STRIPE_PAGES, ...formOrigins],
        // On plain http (a local server) it would send every request to a port that is not there.
        ...(https ? { 'upgrade-insecure-requests': [] } : {}),
      },
    },
    strictTransportSecurity: https ? { maxAge: 31_536_000, includeSubDomains: false } : false,
    xFrameOptions: { action: 'deny' },
    referrerPolicy: { policy: 'strict-origin-when-cross-origin' },
  });
}

/**
 * Lets an app's own pages, on the origins they return to, call the API from the browser. Never
 * with cookies: callers hold tokens. Null = no other origin may.
 */
export function crossOrigin({ settings }: Pick<AppDeps, 'settings'>): RequestHandler | null {
  const { returnOrigins } = settings.http;
  if (returnOrigins.length === 0) return null;
  return cors({
    origin: [...returnOrigins],
    methods: ['GET', 'HEAD', 'POST', 'PUT'],
    allowedHeaders: ['authorization', 'content-type', 'idempotency-key', 'x-request-id'],
    exposedHeaders: [
      'etag',
      'idempotency-replayed',
      'ratelimit',
      'ratelimit-policy',
      'retry-after',
      'x-request-id',
    ],
    maxAge: PREFLIGHT_SECONDS,
  });
}
