import { PurserError } from '../core/errors.ts';

/** Where a page ended, wrapped so that nobody builds one. `list` keeps lists apart. */
export function toCursor(list: string, position: string): string {
  return Buffer.from(JSON.stringify([list, position])).toString('base64url');
}

/** Errors: `invalid_request` for anything `toCursor` did not make for this list. */
export function fromCursor(list: string, cursor: string, position: RegExp): string {
  let parsed: unknown = null;
  try {
    parsed = JSON.parse(Buffer.from(cursor, 'base64url').toString());
  } catch {
    // Told below, as for any other text that is not ours.
  }
  if (Array.isArray(parsed) && parsed.length === 2 && parsed[0] === list) {
    const [, found] = parsed;
    if (typeof found === 'string' && position.test(found)) return found;
  }
  throw new PurserError('invalid_request', {
    detail: 'cursor is not one of ours; use next_cursor of the page before.',
    extensions: { errors: [{ path: 'cursor', message: 'is not a cursor of this list' }] },
  });
}
