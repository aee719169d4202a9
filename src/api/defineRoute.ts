import type { Readable } from 'node:stream';
import type { Request, Response } from 'express';
import type { AnswerOf, ParsedRequest, RouteAuth, RouteContract } from './contract/declareRoute.ts';
import type { AppDeps } from './deps.ts';
import type { Identity, UserIdentity } from './identity/identity.ts';

/** Who a handler is called for, by the credential its route takes. */
type CallerOf<Auth extends RouteAuth> = Auth extends 'user'
  ? UserIdentity
  : Auth extends 'optional-user'
    ? UserIdentity | null
    : Auth extends 'public' | 'webhook'
      ? null
      : Identity;

export type HandlerInput<Contract extends RouteContract> = ParsedRequest<Contract> & {
  caller: CallerOf<Contract['auth']>;
  request: Request;
  response: Response;
};

/** What a handler answers: JSON, or a stream of the contract's content type. */
export interface Answer<Body> {
  body?: Body;
  stream?: Readable;
  headers?: Readonly<Record<string, string>>;
}

export interface Route {
  contract: RouteContract;
  handle(
    deps: AppDeps,
    input: ParsedRequest<RouteContract> & {
      caller: Identity | null;
      request: Request;
      response: Response;
    },
  ): Promise<Answer<unknown>>;
}

/**
 * Joins a contract with the code behind it. The handler sees only validated input of a caller
 * who may call, and its answer must have the shape the contract promises.
 */
export function defineRoute<Contract extends RouteContract>(
  contract: Contract,
  handle: (deps: AppDeps, input: HandlerInput<Contract>) => Promise<Answer<AnswerOf<Contract>>>,
): Route {
  // The one place where types are set aside: the mounting code parses with this very contract.
  return { contract, handle: handle as unknown as Route['handle'] };
}
