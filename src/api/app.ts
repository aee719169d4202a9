import express, { type Express } from 'express';
import type { AppDeps } from './deps.ts';
import { createKeyRing } from './identity/keys.ts';
import { createKnownUsers } from './knownUsers.ts';
import { mountRoutes } from './mountRoutes.ts';
import { observeRequests } from './observeRequests.ts';
import { mountMail } from './pages/mailPages.ts';
import { mountReference, mountWeb, nothingHere } from './pages/mountPages.ts';
import { problemHandler } from './problems.ts';
import { createRateLimits } from './rateLimits.ts';
import { requestIds } from './requestId.ts';
import { routes } from './routes/index.ts';
import { crossOrigin, securityHeaders } from './security.ts';

/**
 * The whole HTTP surface. Order matters: the id first, so that every later line carries it; then
 * the headers every answer needs; bodies are read per route, after its caller is known, so that
 * strangers cannot make us read megabytes and nothing touches the webhook's bytes before its
 * signature is checked.
 */
export function createApp(deps: AppDeps): Express {
  const { settings, lifecycle } = deps;
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.set('query parser', 'simple');
  app.set('case sensitive routing', true);
  app.set('trust proxy', settings.http.trustProxy);

  if (deps.observeRequest !== undefined) app.use(observeRequests(deps.observeRequest));
  app.use(requestIds(deps));
  app.use((_request, response, next) => {
    // Connections kept alive would outlast the drain.
    if (lifecycle.draining) response.setHeader('Connection', 'close');
    next();
  });
  app.use(securityHeaders(deps));
  const cors = crossOrigin(deps);
  if (cors !== null) app.use('/api', cors);

  mountRoutes(
    app,
    {
      app: deps,
      auth: {
        keys: createKeyRing(settings.keys),
        tokens: deps.tokens,
        gateway: {
          secrets: settings.identity.gatewaySecrets,
          trustPlainHeaders: settings.allEmbedded,
          clock: deps.clock,
        },
        logger: deps.logger,
        cronOpen: settings.keys.cron.length > 0 || !settings.production,
      },
      limits: createRateLimits(deps),
      knownUsers: createKnownUsers(deps.credits),
    },
    routes,
  );
  mountReference(app, deps);
  mountMail(app, deps);
  const nothing = nothingHere(deps);
  app.use('/api', nothing);
  mountWeb(app, deps);
  app.use(nothing);
  app.use(problemHandler(deps));
  return app;
}
