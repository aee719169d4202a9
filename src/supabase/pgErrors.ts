/**
 * Turns what `pg` and Postgres report into our errors, by code and never by text, and says which
 * failures a repeat may heal.
 */
import { ERRORS, type ErrorCode, PurserError } from '../core/errors.ts';

/** How sure it is that the call changed nothing. */
export type Effect = 'none' | 'unknown';

export interface PgFailure {
  error: PurserError;
  /** True when the same call may succeed later. */
  transient: boolean;
  effect: Effect;
}

/** What a failed attempt knew about itself. */
export interface AttemptContext {
  functionName: string;
  /** False until the statement was handed to the connection. */
  sent: boolean;
}

interface PgErrorFields {
  code?: string;
  message: string;
  detail?: string;
  hint?: string;
  /** The server's call stack: absent when the statement itself, not a function, failed. */
  where?: string;
  severity?: string;
}

const RETRY_AFTER_SECONDS = 1;

/** The server took the statement back whole before it answered. */
const ROLLED_BACK = new Set(['40001', '40P01', '55P03']);
/** The server is going, coming, full, or a read-only replica during a failover. */
const SERVER_AWAY = new Set(['57P01', '57P02', '57P03', '57P05', '53300', '25006']);
/** Failures of the way to the server (Node's codes); an error without a code is one too. */
const NETWORK = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'ECONNABORTED',
  'EAI_AGAIN',
  'ENOTFOUND',
]);
/** Wrong address, credentials or rights: a person has to change a setting. */
const REFUSED_BY_SERVER = new Set(['28000', '28P01', '3D000', '42501']);

/** True for an answer of the server after which the connection can go on. */
export function leavesConnectionUsable(cause: unknown): boolean {
  return (cause as PgErrorFields).severity === 'ERROR';
}

export function classifyPgError(cause: unknown, context: AttemptContext): PgFailure {
  if (cause instanceof PurserError) return { error: cause, transient: false, effect: 'none' };
  const fields = cause as PgErrorFields;
  const code = fields.code ?? '';
  if (/^PT\d{3}$/.test(code)) return certain(brokenContract(fields, cause), false);
  if (ROLLED_BACK.has(code)) {
    return certain(down(context, `it could not finish beside other work (${code})`, cause), true);
  }
  if (code === '57014') {
    return certain(
      down(context, 'the database did not answer within its time limit', cause),
      false,
    );
  }
  const answered = leavesConnectionUsable(cause);
  const effect: Effect = context.sent && !answered ? 'unknown' : 'none';
  if (SERVER_AWAY.has(code) || code.startsWith('08')) {
    return {
      error: down(context, `the server says: ${fields.message}`, cause),
      transient: true,
      effect,
    };
  }
  if (NETWORK.has(code) || (code === '' && !answered)) {
    const reason = fields.message || code;
    return { error: down(context, `no connection: ${reason}`, cause), transient: true, effect };
  }
  return certain(permanent(fields, code, context, cause), false);
}

function permanent(
  fields: PgErrorFields,
  code: string,
  context: AttemptContext,
  cause: unknown,
): PurserError {
  // From inside one of our functions the same codes are a defect of that function.
  const ofTheCall = fields.where === undefined;
  if (ofTheCall && (code === '42883' || code === '3F000')) return migrationMissing(context, cause);
  if (ofTheCall && REFUSED_BY_SERVER.has(code)) {
    return new PurserError('dependency_down', {
      detail:
        `The database refuses Purser (${code}): ${fields.message}. Check the user, password and ` +
        'database in DATABASE_URL, and that this user is the one that ran `npm run migrate`.',
      cause,
    });
  }
  if (code === '22P05') {
    return new PurserError('invalid_request', {
      detail: 'A text holds a character that Postgres cannot store (U+0000). Remove it.',
      cause,
    });
  }
  if (isTlsFailure(code)) {
    return down(
      context,
      `its certificate is not trusted (${fields.message}). Name its authority with sslrootcert, or ` +
        'use sslmode=require, which encrypts without checking who answers',
      cause,
    );
  }
  if (code.startsWith('53') || code.startsWith('58')) {
    return down(context, `the database cannot work: ${fields.message}`, cause);
  }
  return new PurserError('internal', {
    detail:
      `${context.functionName} failed in the database (SQLSTATE ${code || 'none'}): ${fields.message}` +
      (fields.where ? ` [${fields.where.split('\n')[0]}]` : ''),
    cause,
  });
}

/** Our functions raise `PTnnn` with our code as message and `{detail, ...extensions}` as detail. */
function brokenContract(fields: PgErrorFields, cause: unknown): PurserError {
  const known = Object.hasOwn(ERRORS, fields.message);
  const code = known ? (fields.message as ErrorCode) : 'internal';
  const { detail, ...extensions } = parseDetail(fields.detail);
  const text = typeof detail === 'string' ? detail : ERRORS[code].title;
  return new PurserError(code, {
    detail: known ? text : `The database raised the unknown code ${fields.message}: ${text}`,
    extensions,
    cause,
  });
}

function parseDetail(text: string | undefined): Record<string, unknown> {
  if (!text) return {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed !== null && typeof parsed === 'object' && !Array.isArray(parsed)) {
      return parsed as Record<string, unknown>;
    }
  } catch {
    // A plain sentence is a fine detail too.
  }
  return { detail: text };
}

function migrationMissing(context: AttemptContext, cause: unknown): PurserError {
  return new PurserError('dependency_down', {
    detail:
      `The database lacks ${context.functionName}() in the form this Purser calls it: the migration ` +
      'is missing or older than this version. Apply it with `npm run migrate`, or paste the files ' +
      'of sql/ into the Supabase SQL editor, or copy them to supabase/migrations.',
    cause,
  });
}

function down(context: AttemptContext, why: string, cause: unknown): PurserError {
  return new PurserError('dependency_down', {
    detail: `The database could not do ${context.functionName}: ${why}`,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

function certain(error: PurserError, transient: boolean): PgFailure {
  return { error, transient, effect: 'none' };
}

function isTlsFailure(code: string): boolean {
  return /^(ERR_TLS_|ERR_SSL_|CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_)/.test(code);
}
