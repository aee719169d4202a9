import type { MirrorRecord, MirrorWrite, SeenMirror } from '../core/ports.ts';
import type { Reply } from './connection.ts';

/** Fields of the hash, in the order of the scripts' arguments. */
export const MIRROR_FIELDS = [
  'ledger',
  'version',
  'balance',
  'held',
  'available',
  'suspended',
  'valid_until',
] as const;

/** The values as the contract has them: decimal strings, `suspended` 0 or 1, '' for none. */
export function encodeMirror(record: MirrorRecord): string[] {
  return [
    record.ledger,
    String(record.version),
    String(record.balance),
    String(record.held),
    String(record.available),
    record.suspended ? '1' : '0',
    record.valid_until === null ? '' : String(record.valid_until),
  ];
}

/** Null when there is none, or when a field is missing or not what Purser writes. */
export function decodeMirror(values: Reply): MirrorRecord | null {
  if (!Array.isArray(values) || values.length !== MIRROR_FIELDS.length) return null;
  const [ledger, version, balance, held, available, suspended, validUntil] = values;
  if (typeof ledger !== 'string' || ledger === '') return null;
  if (suspended !== '0' && suspended !== '1') return null;
  const record = {
    ledger,
    version: wholeNumber(version),
    balance: wholeNumber(balance),
    held: wholeNumber(held),
    available: wholeNumber(available),
    suspended: suspended === '1',
    valid_until: validUntil === '' ? null : wholeNumber(validUntil),
  };
  // One that is not a number makes the sum none.
  const sum =
    record.version + record.balance + record.held + record.available + (record.valid_until ?? 0);
  return Number.isNaN(sum) ? null : record;
}

/** What a scan saw of a hash: [ledger, version]. */
export function decodeSeen(values: Reply): SeenMirror | null {
  if (!Array.isArray(values)) return null;
  const [ledger, text] = values;
  const version = wholeNumber(text);
  return typeof ledger === 'string' && !Number.isNaN(version) ? { ledger, version } : null;
}

/** Output of writeMirror.lua. */
export function decodeWrite(output: Reply): MirrorWrite {
  if (Array.isArray(output)) {
    const [word, stored] = output;
    if (word === 'applied' || word === 'equal') return { outcome: word };
    const storedVersion = wholeNumber(stored);
    if (word === 'stale' && !Number.isNaN(storedVersion)) return { outcome: word, storedVersion };
  }
  throw new Error(`writeMirror.lua answered ${JSON.stringify(output)}`);
}

/** NaN for everything but a whole number within +-(2^53 - 1), written without frills. */
function wholeNumber(value: Reply | undefined): number {
  if (typeof value !== 'string' || !/^-?\d{1,16}$/.test(value)) return Number.NaN;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : Number.NaN;
}
