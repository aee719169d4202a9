import type { RequestHandler, Response } from 'express';
import type { RequestObserver } from './deps.ts';

/** Tells of every answer once it has been sent, or given up by whoever asked. */
export function observeRequests(observe: RequestObserver): RequestHandler {
  return (request, response, next) => {
    const begun = performance.now();
    response.once('close', () => {
      observe({
        route: (response.locals.route as string | undefined) ?? 'other',
        method: request.method,
        status: response.statusCode,
        seconds: (performance.now() - begun) / 1000,
        replays: replaysIn(response),
      });
    });
    next();
  };
}

function replaysIn(response: Response): number {
  if (response.getHeader('Idempotency-Replayed') === 'true') return 1;
  return (response.locals.replays as number | undefined) ?? 0;
}
