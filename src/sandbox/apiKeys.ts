import { timingSafeEqual } from 'node:crypto';
import { add, type Context } from './context.ts';
import { ApiError } from './errors.ts';
import { restrictedKeys } from './tables.ts';

type Level = 'read' | 'write';

/** A key that may do only what it was made for, as one makes them in Stripe's dashboard. */
export type RestrictedKey = {
  /** `rk_test_sandbox_...`: the key itself. */
  id: string;
  object: 'sandbox.restricted_key';
  permissions: Readonly<Record<string, Level>>;
};

export const RESTRICTED_KEYS_MAX = 100;

/** Stripe's names of permissions by the beginning of the path; the longest that fits counts. */
const RESOURCES: Readonly<Record<string, string>> = {
  '/v1/account': 'account',
  '/v1/balance': 'balance',
  '/v1/balance_transactions': 'balance_transaction_source',
  '/v1/billing_portal': 'customer_portal',
  '/v1/charges': 'charge',
  '/v1/checkout/sessions': 'checkout_session',
  '/v1/coupons': 'coupon',
  '/v1/credit_notes': 'credit_note',
  '/v1/customers': 'customer',
  '/v1/disputes': 'dispute',
  '/v1/events': 'event',
  '/v1/invoice_payments': 'invoice',
  '/v1/invoiceitems': 'invoice',
  '/v1/invoices': 'invoice',
  '/v1/payment_intents': 'payment_intent',
  '/v1/payment_methods': 'payment_method',
  '/v1/prices': 'plan',
  '/v1/products': 'product',
  '/v1/promotion_codes': 'promotion_code',
  '/v1/refunds': 'charge',
  '/v1/subscription_items': 'subscription',
  '/v1/subscriptions': 'subscription',
  '/v1/webhook_endpoints': 'webhook',
  '/v2/core/events': 'event',
};
export const PERMISSIONS: ReadonlySet<string> = new Set(Object.values(RESOURCES));

export function createRestrictedKey(
  ctx: Context,
  permissions: Readonly<Record<string, Level>>,
): RestrictedKey {
  return add(
    ctx,
    restrictedKeys,
    { id: ctx.newId('rk_test_sandbox_'), object: 'sandbox.restricted_key', permissions },
    {},
  ).view;
}

/** @throws ApiError 401 for a wrong key, 403 naming the permission a restricted one lacks. */
export function checkKey(
  ctx: Context,
  request: { authorization: string | undefined; method: string; path: string },
  secretKey: string,
): void {
  const key = keyOf(request.authorization);
  if (key === null) {
    throw unauthorized(
      'You did not provide an API key. Send the sandbox key with Bearer auth: `Authorization: Bearer sk_test_...`.',
    );
  }
  if (/^(sk|rk)_live_/.test(key)) {
    throw unauthorized(
      'This is a local sandbox and you sent a LIVE Stripe key. It is refused and was not stored. Use the sandbox key; consider the live key exposed if this was not your own machine.',
    );
  }
  const given = Buffer.from(key);
  const expected = Buffer.from(secretKey);
  if (given.length === expected.length && timingSafeEqual(given, expected)) return;
  const restricted = ctx.store.get(restrictedKeys, key)?.view;
  if (!restricted) {
    throw unauthorized(
      `Invalid API Key provided: ${key.slice(0, 8)}${'*'.repeat(8)}${key.slice(-4)}. The sandbox prints its key when it starts.`,
    );
  }
  checkPermission(restricted, request);
}

function checkPermission(
  { id, permissions }: RestrictedKey,
  { method, path }: { method: string; path: string },
): void {
  const fitting = Object.keys(RESOURCES)
    .filter((start) => path === start || path.startsWith(`${start}/`))
    .sort((left, right) => right.length - left.length);
  const resource = RESOURCES[fitting[0] ?? ''];
  // What the sandbox does not serve is a 404 for every key.
  if (resource === undefined) return;
  const needed: Level = method === 'GET' ? 'read' : 'write';
  const level = permissions[resource];
  if (level === 'write' || level === needed) return;
  throw new ApiError(403, {
    type: 'invalid_request_error',
    message: `The provided key 'rk_test_${'*'.repeat(12)}${id.slice(-4)}' does not have the required permissions for this endpoint on account 'acct_sandbox'. Having the 'rak_${resource}_${needed}' permission would allow this request to continue.`,
  });
}

/** Bearer, or the user name of basic auth as curl -u sends it. */
function keyOf(authorization: string | undefined): string | null {
  const [scheme = '', credentials = ''] = (authorization ?? '').split(' ');
  if (credentials === '') return null;
  if (/^bearer$/i.test(scheme)) return credentials;
  if (!/^basic$/i.test(scheme)) return null;
  return Buffer.from(credentials, 'base64').toString('utf8').split(':')[0] || null;
}

function unauthorized(message: string): ApiError {
  return new ApiError(401, { type: 'invalid_request_error', message });
}
