import { PurserError } from '../core/errors.ts';

/**
 * Checks that a URL leads back to one of our own pages, so that nobody borrows our checkout to
 * send buyers elsewhere. Returns the text as given: Stripe fills in `{CHECKOUT_SESSION_ID}`.
 * Errors: `invalid_request`, naming the field and the origins that are allowed.
 */
export function checkReturnUrl(field: string, value: string, allowedOrigins: string[]): string {
  const refuse = (message: string): never => {
    throw new PurserError('invalid_request', {
      detail: `${field} ${message}. Allowed origins: ${allowedOrigins.join(', ')}; add others to PURSER_RETURN_ORIGINS.`,
      extensions: { errors: [{ path: field, message }] },
    });
  };
  // Parsers disagree on backslashes, blanks and control characters; no real URL needs them.
  if (!/^[\x21-\x5B\x5D-\x7E]{1,2048}$/.test(value)) {
    refuse('must have 1 to 2048 printable ASCII characters without blanks or backslashes');
  }
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url === null) return refuse('must be an absolute URL');
  if (url.username !== '' || url.password !== '') refuse('must not carry a user name or password');
  if (!allowedOrigins.includes(url.origin)) refuse('leads to an origin that is not allowed');
  return value;
}
