/**
 * What a failed database call comes to, whichever adapter made it: our error, whether a repeat may
 * heal it, and how sure it is that nothing was changed. Codes decide, never texts.
 */
import { ERRORS, type ErrorCode, PurserError } from '../core/errors.ts';

/** How sure it is that the call changed nothing. */
export type Effect = 'none' | 'unknown';

export interface CallFailure {
  error: PurserError;
  /** True when the same call may succeed later. */
  transient: boolean;
  effect: Effect;
}

/** What a failed attempt knew about itself. */
export interface AttemptContext {
  functionName: string;
  /** False until the call was handed to the connection. */
  sent: boolean;
}

/** What the server said about a failed statement. */
export interface ServerReport {
  /** SQLSTATE; empty when there is none. */
  code: string;
  message: string;
  detail?: string | undefined;
}

const RETRY_AFTER_SECONDS = 1;

/** The server took the statement back whole before it answered. */
const ROLLED_BACK: ReadonlyMap<string, string> = new Map([
  ['40001', 'it could not finish beside other work (40001)'],
  ['40P01', 'it could not finish beside other work (40P01)'],
  ['55P03', 'it could not finish beside other work (55P03)'],
  ['57014', 'the database did not answer within its time limit'],
]);

/** The server is going, coming, full, or a read-only replica during a failover. */
const SERVER_AWAY = new Set(['57P01', '57P02', '57P03', '57P05', '53300', '25006']);

export function isServerAway(code: string): boolean {
  return SERVER_AWAY.has(code) || code.startsWith('08');
}

/** Failures that mean the same however they arrive; null = the adapter has to look closer. */
export function classifyReport(
  report: ServerReport,
  context: AttemptContext,
  cause: unknown,
): CallFailure | null {
  if (/^PT\d{3}$/.test(report.code)) return certain(brokenContract(report, cause), false);
  const rolledBack = ROLLED_BACK.get(report.code);
  return rolledBack === undefined ? null : certain(down(context, rolledBack, cause), true);
}

/** The end of every classification: what no rule expects is a defect. */
export function unexpected(
  report: ServerReport,
  context: AttemptContext,
  cause: unknown,
): PurserError {
  const { code, message } = report;
  if (code === '22P05') {
    return new PurserError('invalid_request', {
      detail: 'A text holds a character that Postgres cannot store (U+0000). Remove it.',
      cause,
    });
  }
  if (code.startsWith('53') || code.startsWith('58')) {
    return down(context, `the database cannot work: ${message}`, cause);
  }
  return new PurserError('internal', {
    detail: `${context.functionName} failed in the database (${code || 'no code'}): ${message}`,
    cause,
  });
}

/** Our functions raise `PTnnn` with our code as message and `{detail, ...extensions}` as detail. */
function brokenContract(report: ServerReport, cause: unknown): PurserError {
  const known = Object.hasOwn(ERRORS, report.message);
  const code = known ? (report.message as ErrorCode) : 'internal';
  const { detail, ...extensions } = parseDetail(report.detail);
  const text = typeof detail === 'string' ? detail : ERRORS[code].title;
  return new PurserError(code, {
    detail: known ? text : `The database raised the unknown code ${report.message}: ${text}`,
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

export function migrationMissing(context: AttemptContext, cause: unknown): PurserError {
  return new PurserError('dependency_down', {
    detail:
      `The database lacks ${context.functionName}() in the form this Purser calls it: the migration ` +
      'is missing or older than this version. Apply it with `npm run migrate`, or paste the files ' +
      'of sql/ into the Supabase SQL editor, or copy them to supabase/migrations.',
    cause,
  });
}

/** Of the moment: the same call may be sent again. */
export function down(context: AttemptContext, why: string, cause: unknown): PurserError {
  return new PurserError('dependency_down', {
    detail: `The database could not do ${context.functionName}: ${why}`,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

/** For calls after `close()`. */
export function closedDatabase(): PurserError {
  return new PurserError('dependency_down', {
    detail: 'The database connections are closed: Purser is stopping.',
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}

/** Callers that may wait for a connection; more would only time out, so they are refused at once. */
export const WAITING_MAX = 1_000;

export function tooManyWaiting(): PurserError {
  return new PurserError('overloaded', {
    detail: `More than ${WAITING_MAX} calls wait for a database connection.`,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}

export function allBusy(connections: number, cause?: unknown): PurserError {
  return new PurserError('dependency_down', {
    detail: `All ${connections} database connections are busy.`,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  });
}

/** The call changed nothing, whatever else is true. */
export function certain(error: PurserError, transient: boolean): CallFailure {
  return { error, transient, effect: 'none' };
}
