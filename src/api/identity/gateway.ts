import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../core/ports.ts';
import { userIdSchema } from '../contract/primitives.ts';
import { type UserIdentity, unauthenticated } from './identity.ts';

/** How far the gateway's clock may be from ours, both ways; bounds how long a request replays. */
const TIMESTAMP_WINDOW_SECONDS = 60;

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** Node reads header bytes as Latin-1; gateways send ids as UTF-8. */
function decodeHeader(value: string): string {
  try {
    return UTF8.decode(Buffer.from(value, 'latin1'));
  } catch {
    return value;
  }
}

/** The one value of a header; null when absent. Sent twice, nobody knows which one was meant. */
function readHeader(request: IncomingMessage, name: string): string | null {
  const values = request.headersDistinct[name];
  if (values === undefined) return null;
  if (values.length > 1) throw unauthenticated(`The header ${name} was sent more than once.`);
  return decodeHeader(values[0] ?? '');
}

function toIdentity(id: string, email: string, via: 'gateway' | 'local'): UserIdentity {
  const userId = userIdSchema.safeParse(id);
  if (!userId.success) {
    throw unauthenticated(`x-user-id ${userId.error.issues[0]?.message ?? 'is not valid'}.`);
  }
  return {
    kind: 'user',
    userId: userId.data,
    email: email === '' ? null : email,
    admin: false,
    anonymous: false,
    actor: `${via}:${userId.data}`,
  };
}

function isSignedBy(secret: string, message: string, signature: string): boolean {
  const expected = createHmac('sha256', secret).update(message).digest();
  return timingSafeEqual(expected, Buffer.from(signature, 'hex'));
}

export interface GatewayOptions {
  secrets: readonly string[];
  /** True only when every part is embedded: the local user switch, as in the quickstart. */
  trustPlainHeaders: boolean;
  clock: Clock;
}

/**
 * The user a gateway in front of Purser vouches for. The signature covers id, e-mail, time,
 * method and target, so that it cannot be moved to another user or request. Null when the request
 * names no user this way, or names one in a way that does not count here.
 * Errors: `unauthenticated` for a signature that is present and wrong.
 */
export function readGatewayUser(
  request: IncomingMessage & { originalUrl: string },
  { secrets, trustPlainHeaders, clock }: GatewayOptions,
): UserIdentity | null {
  const id = readHeader(request, 'x-user-id');
  const signature = readHeader(request, 'x-user-signature');
  if (id === null) {
    if (signature !== null) throw unauthenticated('x-user-signature came without x-user-id.');
    return null;
  }
  const email = readHeader(request, 'x-user-email') ?? '';
  if (signature === null) return trustPlainHeaders ? toIdentity(id, email, 'local') : null;

  if (secrets.length === 0) {
    throw unauthenticated('Signed users are not accepted: PURSER_GATEWAY_SECRET is not set.');
  }
  const timestamp = readHeader(request, 'x-user-timestamp') ?? '';
  if (!/^\d{1,12}$/.test(timestamp)) {
    throw unauthenticated('x-user-timestamp must be the time of signing in unix seconds.');
  }
  const distance = Math.abs(clock.now().getTime() / 1000 - Number(timestamp));
  if (distance > TIMESTAMP_WINDOW_SECONDS) {
    throw unauthenticated(
      `x-user-timestamp is more than ${TIMESTAMP_WINDOW_SECONDS} seconds from this server's time.`,
    );
  }
  const message = [id, email, timestamp, request.method, request.originalUrl].join('\n');
  const wellFormed = /^[0-9a-f]{64}$/i.test(signature);
  if (!wellFormed || !secrets.some((secret) => isSignedBy(secret, message, signature))) {
    throw unauthenticated('x-user-signature does not fit this request.');
  }
  return toIdentity(id, email, 'gateway');
}
