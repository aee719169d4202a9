/**
 * Key names, as the contract gives them to apps that read Redis themselves. The braces are part
 * of the key: they put all keys of a user on one shard of a cluster.
 */
export function creditsKey(userId: string): string {
  return `credits:{${encodeId(userId)}}`;
}

/** `[A-Za-z0-9_-]` stays, every other byte becomes `%XX`: no id can name another key. */
function encodeId(id: string): string {
  let encoded = '';
  for (const byte of Buffer.from(id, 'utf8')) {
    const char = String.fromCharCode(byte);
    encoded += /[A-Za-z0-9_-]/.test(char)
      ? char
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
