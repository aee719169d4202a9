/** Turns what `pg` and Postgres report into call failures. */
import { PurserError } from '../core/errors.ts';
import {
  type AttemptContext,
  type CallFailure,
  certain,
  classifyReport,
  down,
  type Effect,
  isServerAway,
  migrationMissing,
  unexpected,
} from './callFailure.ts';
import { isNetworkCode, isTlsFailure } from './networkErrors.ts';

interface PgErrorFields {
  code?: string;
  message: string;
  detail?: string;
  hint?: string;
  /** The server's call stack: absent when the statement itself, not a function, failed. */
  where?: string;
  severity?: string;
}

/** Wrong address, credentials or rights: a person has to change a setting. */
const REFUSED_BY_SERVER = new Set(['28000', '28P01', '3D000', '42501']);

/** True for an answer of the server after which the connection can go on. */
export function leavesConnectionUsable(cause: unknown): boolean {
  return (cause as PgErrorFields).severity === 'ERROR';
}

export function classifyPgError(cause: unknown, context: AttemptContext): CallFailure {
  if (cause instanceof PurserError) return certain(cause, false);
  const fields = cause as PgErrorFields;
  const code = fields.code ?? '';
  const { message, detail } = fields;
  const known = classifyReport({ code, message, detail }, context, cause);
  if (known !== null) return known;
  const answered = leavesConnectionUsable(cause);
  const effect: Effect = context.sent && !answered ? 'unknown' : 'none';
  if (isServerAway(code)) {
    return {
      error: down(context, `the server says: ${fields.message}`, cause),
      transient: true,
      effect,
    };
  }
  if (isNetworkCode(code) || (code === '' && !answered)) {
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
  if (isTlsFailure(code)) {
    return down(
      context,
      `its certificate is not trusted (${fields.message}). Name its authority with sslrootcert, or ` +
        'use sslmode=require, which encrypts without checking who answers',
      cause,
    );
  }
  const place = fields.where ? ` [${fields.where.split('\n')[0]}]` : '';
  return unexpected({ code, message: fields.message + place }, context, cause);
}
