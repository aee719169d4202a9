import { createHash, randomBytes } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
/** Bytes at or above this would make the first letters of the alphabet more likely. */
const UNBIASED_BYTES = 256 - (256 % ALPHABET.length);

/** A source of bytes; the only randomness of the sandbox. */
export type ByteSource = (length: number) => Uint8Array;

/** The same seed gives the same bytes in the same order, for repeatable tests. */
export function seededBytes(seed: string): ByteSource {
  let block = 0;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      const digest = createHash('sha256').update(`${seed}:${block++}`).digest();
      bytes.set(digest.subarray(0, Math.min(digest.length, length - filled)), filled);
      filled += digest.length;
    }
    return bytes;
  };
}

export const systemBytes: ByteSource = (length) => randomBytes(length);

/** `length` letters and digits. */
export function randomText(bytes: ByteSource, length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of bytes(length - text.length)) {
      if (byte < UNBIASED_BYTES) text += ALPHABET[byte % ALPHABET.length];
    }
  }
  return text;
}

/** A coin decided by an id, so that the same seed throws the same one. `probability` from 0 to 1. */
export function chance(id: string, probability: number): boolean {
  if (probability >= 1) return true;
  const word = createHash('sha256').update(`chance:${id}`).digest().readUInt32BE(0);
  return word / 2 ** 32 < probability;
}
