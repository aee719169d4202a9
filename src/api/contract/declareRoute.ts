import type { z } from 'zod';
import type { ErrorCode } from '../../core/errors.ts';

/**
 * One route as the outside sees it. Everything about it is said here once: the server mounts,
 * validates and authenticates from it, the OpenAPI document is made from it, and clients take
 * their types from it. Nothing in this folder runs a server.
 */

/** Whose credential a route takes. `optional-user`: anonymous too, but never a wrong token. */
export type RouteAuth =
  | 'public'
  | 'user'
  | 'optional-user'
  | 'service'
  | 'admin'
  | 'cron'
  /** A scraper's key, or one of a service or an admin. */
  | 'metrics'
  /** Authenticated by the signature in the body's headers, checked by the webhook domain. */
  | 'webhook';

export interface RouteAnswer {
  description: string;
  body?: z.ZodType;
  /** Default `application/json`. */
  contentType?: string;
  /** Names and meanings of headers particular to this answer. */
  headers?: Readonly<Record<string, string>>;
}

export interface RouteContract {
  /** Name of the operation, unique: `getCredits`. */
  id: string;
  method: 'get' | 'post' | 'put';
  /** As Express writes it: `/api/users/:userId`. */
  path: string;
  tag:
    | 'Pricing'
    | 'Checkout'
    | 'Credits'
    | 'Holds'
    | 'Subscriptions'
    | 'Users'
    | 'Webhooks'
    | 'Cron'
    | 'Admin'
    | 'Health';
  summary: string;
  description?: string;
  auth: RouteAuth;
  /** A limit of its own, beside the one every route has. */
  limit?: 'checkout';
  params?: z.ZodType;
  /** Strict: a field it does not name is an error. */
  query?: z.ZodType;
  /** Only headers it names are looked at; names in lower case. */
  headers?: z.ZodType;
  body?: z.ZodType;
  /** True when an empty request body stands for `{}`. */
  bodyOptional?: boolean;
  /** Answers by status; 200 or 201 first. */
  responses: Readonly<Record<number, RouteAnswer>>;
  /** Codes the route itself can meet, beside those every route can. */
  errors: readonly ErrorCode[];
}

export function declareRoute<const Contract extends RouteContract>(contract: Contract): Contract {
  return contract;
}

export type OutputOf<Schema> = Schema extends z.ZodType ? z.output<Schema> : undefined;
type Part<Contract, Name extends string> = Contract extends { [K in Name]: infer Schema }
  ? Schema
  : undefined;

/** What a handler receives after validation. */
export type ParsedRequest<Contract extends RouteContract> = {
  params: OutputOf<Part<Contract, 'params'>>;
  query: OutputOf<Part<Contract, 'query'>>;
  headers: OutputOf<Part<Contract, 'headers'>>;
  body: OutputOf<Part<Contract, 'body'>>;
};

/** The body of the successful answer. */
export type AnswerOf<Contract extends RouteContract> = Contract['responses'] extends
  | { 200: { body: infer Schema } }
  | { 201: { body: infer Schema } }
  ? OutputOf<Schema>
  : undefined;
