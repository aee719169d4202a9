import { PurserError } from './errors.ts';
import type { Json } from './ports.ts';

/** Deeper than anything Stripe writes, and far from where writing JSON runs out of stack. */
const NESTING_MAX = 200;

/**
 * The value in a form that Postgres can keep as `jsonb`: NUL characters and lone surrogates, which it
 * refuses, become U+FFFD. Foreign text (Stripe metadata, users' names) may hold them, and an event must
 * not be lost for one character. Nearly nothing does, so the value itself is answered where it can
 * stay as it is, and a copy only where not. Errors: `invalid_request` for JSON nested deeper than 200.
 */
export function storableJson(value: unknown): Json {
  return isStorable(value, 0) ? (value as Json) : storable(value, 0);
}

function isStorable(value: unknown, depth: number): boolean {
  checkDepth(depth);
  if (typeof value === 'string') return isStorableText(value);
  if (value === null || typeof value !== 'object') return value !== undefined;
  if (Array.isArray(value)) return value.every((item) => isStorable(item, depth + 1));
  return Object.entries(value).every(
    ([key, member]) => isStorableText(key) && isStorable(member, depth + 1),
  );
}

function storable(value: unknown, depth: number): Json {
  checkDepth(depth);
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

function checkDepth(depth: number): void {
  if (depth <= NESTING_MAX) return;
  throw new PurserError('invalid_request', {
    detail: `The JSON is nested deeper than ${NESTING_MAX} levels.`,
  });
}

function isStorableText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\u0000');
}

export function storableText(text: string): string {
  return isStorableText(text) ? text : text.toWellFormed().replaceAll('\u0000', '\uFFFD');
}
