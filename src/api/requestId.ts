import { randomUUID } from 'node:crypto';
import type { RequestHandler } from 'express';
import type { AppDeps } from './deps.ts';

/** What is taken over from a proxy in front; anything else could forge log lines. */
const ACCEPTABLE_ID = /^[\w-]{8,128}$/;

/** Gives each request an id, known to the caller, to every log line and to every error. */
export function requestIds({ requestContext }: Pick<AppDeps, 'requestContext'>): RequestHandler {
  return (request, response, next) => {
    const given = request.headers['x-request-id'];
    const requestId = typeof given === 'string' && ACCEPTABLE_ID.test(given) ? given : randomUUID();
    response.locals.requestId = requestId;
    response.setHeader('X-Request-Id', requestId);
    requestContext.run({ requestId }, next);
  };
}
