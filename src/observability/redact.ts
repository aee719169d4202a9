/**
 * Keeps secrets and people's addresses out of logs: by the name of a field, and by the form of
 * the text wherever it stands, because secrets also arrive inside messages of foreign errors.
 */

export const REDACTED = '[redacted]';

/** Bounds on one log line: it must stay readable, and cheap, whatever is put into it. */
const DEPTH_MAX = 6;
const MEMBERS_MAX = 100;
const TEXT_LENGTH_MAX = 8_192;

const SECRET_NAMES = new Set([
  'authorization',
  'proxyauthorization',
  'cookie',
  'setcookie',
  'apikey',
  'password',
  'passwd',
  'token',
  'jwt',
  'stripesignature',
  'xusersignature',
  'signature',
  'servicekey',
  'adminkey',
  'connectionstring',
]);
const SECRET_NAME_END =
  /(?:secret|secrets|password|secretkey|privatekey|accesstoken|refreshtoken|idtoken|resttoken|servicerolekey|apikey)$/;

function isSecretName(name: string): boolean {
  const plain = name.toLowerCase().replace(/[^a-z]/g, '');
  return SECRET_NAMES.has(plain) || SECRET_NAME_END.test(plain);
}

const PATTERNS: readonly [RegExp, string | ((match: string, ...groups: string[]) => string)][] = [
  [/\b((?:sk|rk|pk)_(?:test|live)_|whsec_|sb_secret_)[A-Za-z0-9_+/=-]{6,}/g, `$1${REDACTED}`],
  // Resend's keys; Stripe's refunds begin alike and stay readable.
  [/\b(re_)[A-Za-z0-9]{8}_[A-Za-z0-9]{16,}/g, `$1${REDACTED}`],
  [/\b(purser_(?:service|admin|cron)_)[A-Za-z0-9_-]{6,}/g, `$1${REDACTED}`],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?/g, '[redacted token]'],
  [/\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{4,}/gi, `$1 ${REDACTED}`],
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)[^\s/]+(?=@)/gi, `$1${REDACTED}`],
  [
    /(hooks\.slack\.com\/services\/|discord(?:app)?\.com\/api\/webhooks\/)[^\s"']+/g,
    `$1${REDACTED}`,
  ],
  [
    /\b([A-Za-z0-9])[A-Za-z0-9._%+-]*@([A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z]{2,24})\b/g,
    '$1***@$2',
  ],
  [
    /\b(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{2,7}|3\d{3}[ -]\d{6}[ -]\d{5})\b/g,
    (match) => (isCardNumber(match) ? '[card]' : match),
  ],
];

/** One cheap look for the characters every pattern needs, so that most texts are not searched. */
const SUSPICIOUS = /@|_|eyJ|earer|asic|\/\/|webhooks\/|services\/|\d{4}[ -]?\d{4}/i;

/** Luhn's check, so that long ids stay readable. */
function isCardNumber(text: string): boolean {
  const digits = text.replace(/\D/g, '');
  let sum = 0;
  for (let place = 0; place < digits.length; place += 1) {
    const digit = Number(digits[digits.length - 1 - place]);
    const doubled = place % 2 === 0 ? digit : digit * 2;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0;
}

export function redactText(text: string): string {
  const short = text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX)}... (cut)` : text;
  if (!SUSPICIOUS.test(short)) return short;
  let clean = short;
  for (const [pattern, replacement] of PATTERNS) {
    clean =
      typeof replacement === 'string'
        ? clean.replace(pattern, replacement)
        : clean.replace(pattern, replacement);
  }
  return clean;
}

/** A copy fit for a log line: bounded, acyclic, without secrets; errors become plain objects. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'function' || typeof value === 'symbol') return undefined;
  if (value === null || typeof value !== 'object') return value;
  if (depth >= DEPTH_MAX) return '[too deep]';
  if (value instanceof Error) return describeError(value, depth);
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  }
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Map || value instanceof Set) return redact([...value], depth);
  if (Array.isArray(value)) {
    const copy = value.slice(0, MEMBERS_MAX).map((member) => redact(member, depth + 1));
    if (value.length > MEMBERS_MAX) copy.push(`[${value.length - MEMBERS_MAX} more]`);
    return copy;
  }
  const copy: [string, unknown][] = [];
  for (const [name, member] of Object.entries(value)) {
    if (copy.length >= MEMBERS_MAX) {
      copy.push(['...', 'more members']);
      break;
    }
    copy.push([name, redactMember(name, member, depth)]);
  }
  return Object.fromEntries(copy);
}

export function redactMember(name: string, member: unknown, depth = 0): unknown {
  if (member !== null && member !== undefined && isSecretName(name)) return REDACTED;
  return redact(member, depth + 1);
}

/**
 * Only members known to be harmless: errors of drivers and SDKs carry queries, parameters, whole
 * requests and headers.
 */
const ERROR_MEMBERS = [
  'code',
  'status',
  'statusCode',
  'type',
  'syscall',
  'constraint',
  'requestId',
];

function describeError(error: Error, depth: number): Record<string, unknown> {
  const described: Record<string, unknown> = {
    name: error.name,
    message: redactText(error.message),
  };
  for (const name of ERROR_MEMBERS) {
    const member = (error as unknown as Record<string, unknown>)[name];
    if (typeof member === 'string' || typeof member === 'number') described[name] = redact(member);
  }
  if (typeof error.stack === 'string') described.stack = redactText(error.stack);
  if (error.cause !== undefined) described.cause = redact(error.cause, depth + 1);
  if (error instanceof AggregateError) described.errors = redact(error.errors, depth + 1);
  return described;
}
