import type { Json } from './ports.ts';

/**
 * A copy that Postgres can keep as `jsonb`: NUL characters and lone surrogates, which it refuses,
 * become U+FFFD. Foreign text (Stripe metadata, users' names) may hold them, and an event must
 * not be lost for one character.
 */
export function storableJson(value: unknown): Json {
  if (typeof value === 'string') return storableText(value);
  if (Array.isArray(value)) return value.map(storableJson);
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([key, member]) => [storableText(key), storableJson(member)]),
    );
  }
  return value as Json;
}

export function storableText(text: string): string {
  return text.toWellFormed().replaceAll('\u0000', '\uFFFD');
}
