import { PurserError } from './errors.ts';
import type { Json } from './ports.ts';

/** Deeper than anything Stripe writes, and far from where writing JSON runs out of stack. */
const NESTING_MAX = 200;

/**
 * A copy that Postgres can keep as `jsonb`: NUL characters and lone surrogates, which it refuses,
 * become U+FFFD. Foreign text (Stripe metadata, users' names) may hold them, and an event must
 * not be lost for one character. Errors: `invalid_request` for JSON nested deeper than 200.
 */
export function storableJson(value: unknown): Json {
  return storable(value, 0);
}

function storable(value: unknown, depth: number): Json {
  if (depth > NESTING_MAX) {
    throw new PurserError('invalid_request', {
      detail: `The JSON is nested deeper than ${NESTING_MAX} levels.`,
    });
  }
  if (typeof value === 'string') return storableText(value);
  if (Array.isArray(value)) return value.map((item) => storable(item, depth + 1));
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([key, member]) => [storableText(key), storable(member, depth + 1)]),
    );
  }
  return value as Json;
}

export function storableText(text: string): string {
  return text.toWellFormed().replaceAll('\u0000', '\uFFFD');
}
