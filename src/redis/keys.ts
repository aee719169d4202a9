/**
 * Key names, as the contract gives them to apps that read Redis themselves. The braces are part
 * of the key: they put all keys of a user on one shard of a cluster.
 */
export function creditsKey(userId: string): string {
  return `${CREDITS_START}${encodeId(userId)}${CREDITS_END}`;
}

const CREDITS_START = 'credits:{';
const CREDITS_END = '}';

/** What SCAN looks for; `{` is no wildcard of its patterns. */
export const CREDITS_PATTERN = `${CREDITS_START}*${CREDITS_END}`;

/** The user a key belongs to, or null when it is not one that `creditsKey` makes. */
export function userOfCreditsKey(key: string): string | null {
  if (!key.startsWith(CREDITS_START) || !key.endsWith(CREDITS_END)) return null;
  const encoded = key.slice(CREDITS_START.length, -CREDITS_END.length);
  if (!/^(?:[A-Za-z0-9_-]|%[0-9A-F]{2})*$/.test(encoded)) return null;
  const bytes = encoded.replaceAll(/%([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  const userId = Buffer.from(bytes, 'latin1').toString('utf8');
  return creditsKey(userId) === key ? userId : null;
}

/** Where a job keeps how far it has come. */
export function cursorKey(job: string): string {
  return `purser:cursor:${job}`;
}

/** `[A-Za-z0-9_-]` stays, every other byte becomes `%XX`: no id can name another key. */
function encodeId(id: string): string {
  // Most ids are uuids and the like: nothing to encode.
  if (/^[A-Za-z0-9_-]*$/.test(id)) return id;
  let encoded = '';
  for (const byte of Buffer.from(id, 'utf8')) {
    const char = String.fromCharCode(byte);
    encoded += /[A-Za-z0-9_-]/.test(char)
      ? char
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
