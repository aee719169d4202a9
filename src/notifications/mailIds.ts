import { createHash } from 'node:crypto';

/** A digest of the notification's key, which may hold ids of users, and be longer than headers take. */
export function idempotencyKey(key: string): string {
  return `purser-${createHash('sha256').update(key).digest('hex')}`;
}

export function messageId(key: string, senderAddress: string): string {
  return `<${idempotencyKey(key)}@${senderAddress.split('@').at(-1) ?? 'purser'}>`;
}
