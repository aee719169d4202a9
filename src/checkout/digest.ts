import { createHash } from 'node:crypto';

/** A short fingerprint of several texts, for idempotency keys at Stripe (255 characters at most). */
export function digest(...parts: string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 40);
}
