import type { IRouter, Request, RequestHandler, Response } from 'express';
import { PurserError } from '../core/errors.ts';
import type { RouteContract } from './contract/declareRoute.ts';
import type { Answer, Route } from './defineRoute.ts';
import type { AppDeps } from './deps.ts';
import {
  type AuthenticateDeps,
  authenticate,
  holdsServiceKey,
  isUser,
} from './identity/authenticate.ts';
import type { Identity } from './identity/identity.ts';
import type { KnownUsers } from './knownUsers.ts';
import { applyLimit, type RateLimits } from './rateLimits.ts';
import { readJsonBody, readRawBody } from './readBody.ts';
import { parseRequest } from './validate.ts';

export interface MountDeps {
  app: AppDeps;
  auth: AuthenticateDeps;
  limits: RateLimits;
  knownUsers: KnownUsers;
}

const takesKey = ({ auth }: RouteContract) =>
  auth === 'service' || auth === 'admin' || auth === 'cron' || auth === 'metrics';

/** Counted before anything costs more than a hash, so that a flood of bad tokens is cheap. */
async function countRequest(
  { auth, limits }: MountDeps,
  contract: RouteContract,
  request: Request,
  response: Response,
): Promise<void> {
  if (contract.auth === 'webhook' || contract.tag === 'Health') return;
  if (!holdsServiceKey(auth, request)) await applyLimit(limits.address, request, response);
}

async function findCaller(
  { auth, limits }: MountDeps,
  contract: RouteContract,
  request: Request,
  response: Response,
): Promise<Identity | null> {
  try {
    const caller = await authenticate(auth, request, contract.auth);
    response.locals.actor = caller?.actor;
    if (caller?.kind === 'service') await applyLimit(limits.serviceKey, request, response);
    if (contract.limit !== undefined) await applyLimit(limits[contract.limit], request, response);
    return caller;
  } catch (error) {
    const guessed = takesKey(contract) && request.headers.authorization !== undefined;
    if (guessed && error instanceof PurserError && error.code === 'unauthenticated') {
      await applyLimit(limits.wrongKey, request, response);
    }
    throw error;
  }
}

function send(contract: RouteContract, response: Response, answer: Answer<unknown>): void {
  for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value);
  if (response.hasHeader('ETag') && response.req.fresh) {
    response.status(304).end();
    return;
  }
  // Not `response.send`: it would answer 304 to "If-None-Match: *" also for what has no ETag.
  const body = Buffer.from(JSON.stringify(answer.body));
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', body.length);
  response.statusCode = Number(Object.keys(contract.responses)[0]);
  response.end(body);
}

/** Streams without holding more than a buffer; a reader who leaves ends the source. */
function sendStream(contract: RouteContract, response: Response, answer: Answer<unknown>) {
  const { stream } = answer;
  if (stream === undefined) return Promise.resolve();
  for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value);
  response.status(200).type(contract.responses[200]?.contentType ?? 'application/octet-stream');
  if (response.req.method === 'HEAD') {
    stream.destroy();
    response.end();
    return Promise.resolve();
  }
  return new Promise<void>((resolve, reject) => {
    stream.once('error', reject);
    response.once('finish', resolve);
    response.once('close', () => {
      stream.destroy();
      resolve();
    });
    stream.pipe(response);
  });
}

function toHandler(deps: MountDeps, { contract, handle }: Route): RequestHandler {
  return async (request, response) => {
    response.setHeader('Cache-Control', 'no-store');
    response.locals.route = contract.path;
    await countRequest(deps, contract, request, response);
    const caller = await findCaller(deps, contract, request, response);
    if (contract.auth === 'webhook') await readRawBody(request, response);
    else if (contract.body !== undefined) await readJsonBody(request, response);
    const input = parseRequest(contract, request);
    const ownsRow = contract.auth !== 'admin' && contract.auth !== 'metrics';
    if (isUser(caller) && ownsRow) await deps.knownUsers.ensure(caller);
    const answer = await handle(deps.app, {
      params: undefined,
      query: undefined,
      headers: undefined,
      body: undefined,
      ...input,
      caller,
      request,
      response,
    } as Parameters<Route['handle']>[1]);
    if (answer.stream !== undefined) await sendStream(contract, response, answer);
    else send(contract, response, answer);
  };
}

/** For the methods a path does not have: 405 with those it has. */
function methodNotAllowed(methods: readonly string[]): RequestHandler {
  const allow = [...new Set(methods.flatMap((m) => (m === 'GET' ? ['GET', 'HEAD'] : [m])))];
  return (request, response) => {
    response.setHeader('Allow', allow.join(', '));
    if (request.method === 'OPTIONS') {
      response.status(204).end();
      return;
    }
    throw new PurserError('method_not_allowed', {
      detail: `${request.method} is not allowed here. Allowed: ${allow.join(', ')}.`,
    });
  };
}

/** Mounts every route: limit, authenticate, read, validate, call, answer. */
export function mountRoutes(router: IRouter, deps: MountDeps, routes: readonly Route[]): void {
  const methods = new Map<string, string[]>();
  for (const route of routes) {
    const { method, path } = route.contract;
    router[method](path, toHandler(deps, route));
    methods.set(path, [...(methods.get(path) ?? []), method.toUpperCase()]);
  }
  for (const [path, known] of methods) router.all(path, methodNotAllowed(known));
}
