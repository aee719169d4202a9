import { PurserError } from '../core/errors.ts';

/** A cursor is the entry number of the last row shown, wrapped so that nobody builds one. */
export function cursorOfEntry(entryNumber: number): string {
  return Buffer.from(`entry:${entryNumber}`).toString('base64url');
}

/** Errors: `invalid_request` for anything `cursorOfEntry` did not make. */
export function entryOfCursor(cursor: string): number {
  const match = /^entry:([1-9]\d{0,15})$/.exec(Buffer.from(cursor, 'base64url').toString());
  const entry = Number(match?.[1]);
  if (!Number.isSafeInteger(entry) || cursorOfEntry(entry) !== cursor) {
    throw new PurserError('invalid_request', {
      detail: 'cursor is not one of ours; use next_cursor of the page before.',
      extensions: { errors: [{ path: 'cursor', message: 'is not a cursor of this list' }] },
    });
  }
  return entry;
}
