/** Checks what is handed to a database function before it is sent, alike for every adapter. */
import { PurserError } from '../core/errors.ts';
import type { Json, RpcArgs } from '../core/ports.ts';

const IDENTIFIER = /^[a-z_][a-z0-9_]*$/;
/** What Postgres text cannot hold: NUL, and surrogates without their partner. */
const UNSTORABLE = /[\0\p{Surrogate}]/u;

export interface NamedArg {
  name: string;
  value: Json;
  /** Where it stands, for messages: `function(argument)`. */
  where: string;
}

/**
 * The arguments that were given; `undefined` means left out, so that the SQL default counts.
 * Throws `internal` for names that are none and numbers JSON or Postgres would change in silence,
 * `invalid_request` for text that Postgres cannot store.
 */
export function checkArgs(functionName: string, args: RpcArgs): NamedArg[] {
  requireIdentifier(functionName, 'function name');
  const named: NamedArg[] = [];
  for (const [name, value] of Object.entries(args)) {
    if (value === undefined) continue;
    requireIdentifier(name, `argument name of ${functionName}`);
    const where = `${functionName}(${name})`;
    if (typeof value === 'string') requireStorable(value, where);
    if (typeof value === 'number') requireExact(value, where);
    named.push({ name, value, where });
  }
  return named;
}

/** The JSON text of an object or array that Postgres can store. */
export function storableText(value: Json, where: string): string {
  const text = JSON.stringify(value);
  // Only such characters make JSON.stringify write \u: other texts need no second look.
  if (text.includes('\\u')) requireStorableDeep(value, where);
  return text;
}

function requireIdentifier(text: string, what: string): void {
  if (!IDENTIFIER.test(text)) {
    throw new PurserError('internal', { detail: `Not a valid ${what}: ${JSON.stringify(text)}` });
  }
}

/** JSON writes NaN as null, and an integer past 2^53 is a rounded one already. */
function requireExact(value: number, where: string): void {
  const exact = Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (exact) return;
  throw new PurserError('internal', {
    detail: `${where} is ${value}, which is no number that can be passed on exactly.`,
  });
}

function requireStorableDeep(value: Json | undefined, where: string): void {
  if (typeof value === 'string') requireStorable(value, where);
  if (value === null || typeof value !== 'object') return;
  for (const [key, child] of Object.entries(value)) {
    requireStorable(key, where);
    requireStorableDeep(child, where);
  }
}

function requireStorable(text: string, where: string): void {
  if (!UNSTORABLE.test(text)) return;
  throw new PurserError('invalid_request', {
    detail:
      `A text in ${where} holds a character that Postgres cannot store: NUL (U+0000) or half of a ` +
      'surrogate pair. Remove it.',
  });
}
