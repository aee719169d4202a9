/** How far mirror-repair has come; kept as JSON in Redis, beside the copies it speaks of. */
export interface MirrorCursor {
  /** The ledger the copies are made of. */
  ledger: string;
  /** Changes before this moment of the database's clock are mirrored. */
  since: string;
  /** The ledger's position then. */
  position: number;
  /** When the last full pass that ended had begun; null = none has ended. */
  full_at: string | null;
  /** The full pass under way. */
  full: FullPass | null;
}

export interface FullPass {
  began_at: string;
  /** `ledger`: every user is copied; `redis`: copies of users that are gone are looked for. */
  stage: 'ledger' | 'redis';
  /** The last user copied, or the cursor of the scan; null at the beginning of a stage. */
  at: string | null;
}

/** Null for none, and for a text that is not a cursor: then everything is compared anew. */
export function parseCursor(text: string | null): MirrorCursor | null {
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null; // somebody else's text counts as none
  }
  return isCursor(value) ? value : null;
}

function isCursor(value: unknown): value is MirrorCursor {
  if (value === null || typeof value !== 'object') return false;
  const { ledger, since, position, full_at, full } = value as Record<string, unknown>;
  return (
    typeof ledger === 'string' &&
    isTime(since) &&
    typeof position === 'number' &&
    (full_at === null || isTime(full_at)) &&
    (full === null || isFullPass(full))
  );
}

function isFullPass(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  const { began_at, stage, at } = value as Record<string, unknown>;
  return (
    isTime(began_at) &&
    (stage === 'ledger' || stage === 'redis') &&
    (at === null || typeof at === 'string')
  );
}

function isTime(value: unknown): boolean {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value));
}
