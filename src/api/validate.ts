import type { Request } from 'express';
import type { z } from 'zod';
import { PurserError } from '../core/errors.ts';
import type { RouteContract } from './contract/declareRoute.ts';
import { type FieldError, invalidRequest } from './problems.ts';

const UNKNOWN_FIELDS_NAMED_MAX = 5;
const FIELD_NAME_LENGTH_MAX = 60;

const shorten = (name: string) =>
  name.length > FIELD_NAME_LENGTH_MAX ? `${name.slice(0, FIELD_NAME_LENGTH_MAX)}...` : name;

const join = (...parts: readonly PropertyKey[]) =>
  parts
    .map((part) => shorten(String(part)))
    .filter((part) => part !== '')
    .join('.');

/** Says in our words what zod says in its own; messages the schemas wrote themselves stay. */
function describeIssue(issue: z.core.$ZodIssue, input: unknown): string {
  switch (issue.code) {
    case 'invalid_type': {
      if (readAt(input, issue.path) === undefined) return 'is required';
      const expected = issue.expected === 'int' ? 'a whole number' : article(issue.expected);
      return issue.message.startsWith('Invalid input') ? `must be ${expected}` : issue.message;
    }
    case 'too_big':
      return issue.message.startsWith('Too big')
        ? `must be at most ${issue.maximum}`
        : issue.message;
    case 'too_small':
      return issue.message.startsWith('Too small')
        ? `must be at least ${issue.minimum}`
        : issue.message;
    case 'invalid_value':
      return issue.message.startsWith('Invalid')
        ? `must be one of ${issue.values.map(String).join(', ')}`
        : issue.message;
    default:
      return issue.message;
  }
}

function article(type: string): string {
  return `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`;
}

function readAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const part of path) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function toFieldErrors(error: z.ZodError, place: string, input: unknown): FieldError[] {
  return error.issues.flatMap((issue): FieldError[] => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.slice(0, UNKNOWN_FIELDS_NAMED_MAX).map((key) => ({
        path: join(place, ...issue.path, key),
        message: 'is not a field of this request',
      }));
    }
    const path = join(place, ...issue.path);
    const message = describeIssue(issue, input);
    return [{ path, message: path === '' ? `the body ${message}` : message }];
  });
}

/** Fields of the body stand for themselves; others are led by where they come from. */
const PLACES = { params: 'path', query: 'query', headers: 'header', body: '' } as const;

/**
 * Checks all parts of a request and reports everything that is wrong with it at once.
 * Errors: `invalid_request`, `idempotency_key_missing`.
 */
export function parseRequest(contract: RouteContract, request: Request): Record<string, unknown> {
  const sources = {
    params: request.params,
    query: request.query,
    headers: request.headers,
    body: request.body ?? (contract.bodyOptional ? {} : undefined),
  };
  const errors: FieldError[] = [];
  const parsed: Record<string, unknown> = {};
  for (const part of ['params', 'query', 'headers', 'body'] as const) {
    const schema = contract[part];
    if (schema === undefined) continue;
    const result = schema.safeParse(sources[part]);
    if (result.success) parsed[part] = result.data;
    else errors.push(...toFieldErrors(result.error, PLACES[part], sources[part]));
  }
  if (contract.headers !== undefined) checkIdempotencyKey(contract, request, errors);
  if (errors.length > 0) throw invalidRequest(errors);
  return parsed;
}

const KEY_PATH = 'header.idempotency-key';

function checkIdempotencyKey(contract: RouteContract, request: Request, errors: FieldError[]) {
  const values = request.headersDistinct['idempotency-key'] ?? [];
  if (values.length > 1) errors.push({ path: KEY_PATH, message: 'was sent more than once' });
  const missing = values.length === 0 || values[0] === '';
  if (missing && errors.length === 1 && errors[0]?.path === KEY_PATH) {
    throw new PurserError('idempotency_key_missing', {
      detail: `${contract.method.toUpperCase()} ${contract.path} needs an Idempotency-Key header: a text of your choice that names this one operation, the same on every retry.`,
    });
  }
}
