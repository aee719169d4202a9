/** Turns what supabase-js, PostgREST and the gateway before it report into call failures. */
import { PurserError } from '../core/errors.ts';
import { findSupabaseKeyFault } from '../core/supabaseSettings.ts';
import {
  type AttemptContext,
  type CallFailure,
  certain,
  classifyReport,
  down,
  type Effect,
  isServerAway,
  migrationMissing,
  type ServerReport,
  unexpected,
} from './callFailure.ts';
import { isNotConnected, isTlsFailure } from './networkErrors.ts';

/** The project a call went to. */
export interface RestTarget {
  url: string;
  secretKey: string;
}

/** A call that brought no answer of ours. */
export class RestError extends Error {
  /** HTTP status; 0 = no answer at all. */
  readonly status: number;
  /** Code and texts of the body, as far as it had any. */
  readonly report: ServerReport;

  constructor(status: number, body: unknown, cause: unknown) {
    const report = readReport(body);
    super(report.message, { cause });
    this.name = 'RestError';
    this.status = status;
    this.report = report;
  }
}

const TEXT_LENGTH_MAX = 200;

/** Statuses of gateways that lost, refused or gave up on a request; 520-524 are Cloudflare's. */
const PASSING_STATUSES = new Set([408, 429, 502, 503, 504, 520, 521, 522, 523, 524]);
/** PostgREST without its database: 000 and 002 cannot connect, 003 found no free connection. */
const PASSING_CODES = new Set(['PGRST000', 'PGRST001', 'PGRST002', 'PGRST003']);
/** Of these it is certain that no statement ran. */
const NOTHING_RAN = new Set(['PGRST000', 'PGRST002', 'PGRST003', '53300', '57P03', '25006']);
/** Cloudflare's answer for a paused project. */
const PROJECT_PAUSED = 540;

export function classifyRestError(
  target: RestTarget,
  cause: unknown,
  context: AttemptContext,
): CallFailure {
  if (cause instanceof PurserError) return certain(cause, false);
  if (!(cause instanceof RestError)) {
    const message = shorten(String(cause), target);
    return certain(unexpected({ code: '', message }, context, cause), false);
  }
  const { status } = cause;
  const report = { ...cause.report, message: shorten(cause.report.message, target) };
  const known = classifyReport(report, context, cause);
  if (known !== null) return known;
  if (status === 0) return noAnswer(cause, context);
  const { code } = report;
  if (
    isServerAway(code) ||
    PASSING_CODES.has(code) ||
    (PASSING_STATUSES.has(status) && code === '')
  ) {
    // A rate limit refuses before anything runs; any other gateway may have passed the call on.
    const effect: Effect = NOTHING_RAN.has(code) || status === 429 ? 'none' : 'unknown';
    const why = `HTTP ${status}${code && ` ${code}`}: ${report.message}`;
    return { error: down(context, why, cause), transient: true, effect };
  }
  return certain(permanent(target, status, report, context, cause), false);
}

function noAnswer(error: RestError, context: AttemptContext): CallFailure {
  const cause = error.cause as Error | undefined;
  if (cause?.name === 'TimeoutError') {
    const why = 'no answer came within its time limit';
    return { error: down(context, why, error), transient: true, effect: 'unknown' };
  }
  const reason = (cause?.cause ?? cause) as { code?: string; message?: string } | undefined;
  const code = reason?.code ?? '';
  if (isTlsFailure(code)) {
    const why = `the certificate of SUPABASE_URL is not trusted (${code})`;
    return certain(down(context, why, error), false);
  }
  const advice =
    code === 'ENOTFOUND' ? '. Check SUPABASE_URL, and that the project is not paused' : '';
  return {
    error: down(
      context,
      `no connection: ${reason?.message || code || error.message}${advice}`,
      error,
    ),
    transient: true,
    effect: isNotConnected(code) ? 'none' : 'unknown',
  };
}

/** What a person has to mend, in the order of how telling it is. */
function permanent(
  target: RestTarget,
  status: number,
  report: ServerReport,
  context: AttemptContext,
  cause: RestError,
): PurserError {
  const { code, message } = report;
  if (code === 'PGRST202' || isMissingFunction(report, context)) {
    return migrationMissing(context, cause);
  }
  if (code === 'PGRST203') {
    return setUp(
      `The database has more than one ${context.functionName}() that fits this call: one of ` +
        'another version was left behind. Drop it, then run `npm run migrate`.',
      cause,
    );
  }
  if (code === 'PGRST106') {
    return setUp(
      `The Data API of SUPABASE_URL does not show the schema public: ${message}. Add it under ` +
        'Project settings, Data API, Exposed schemas.',
      cause,
    );
  }
  if (status === 401 || status === 403 || code === '42501' || /^PGRST30[0-3]$/.test(code)) {
    return refused(target, status, report, cause);
  }
  if (status === PROJECT_PAUSED) {
    return setUp('The Supabase project is paused. Restore it in the dashboard.', cause);
  }
  if (status < 400 || code === 'PGRST125' || (code === '' && (status === 404 || status === 405))) {
    return setUp(
      `SUPABASE_URL does not lead to the Data API of a Supabase project: HTTP ${status}, ` +
        `${message}. It looks like https://<project>.supabase.co, without a path.`,
      cause,
    );
  }
  if (code === '')
    return setUp(`Supabase does not take this call: HTTP ${status}, ${message}`, cause);
  return unexpected(report, context, cause);
}

/**
 * PostgREST knew the function and Postgres does not: dropped since. The API does not tell whether
 * the code comes from inside a function, where it is a defect, so the name has to decide.
 */
function isMissingFunction({ code, message }: ServerReport, context: AttemptContext): boolean {
  return code === '42883' && message.startsWith(`function public.${context.functionName}(`);
}

/** Never `unauthenticated`: it is Purser that was refused, not the caller. */
function refused(
  target: RestTarget,
  status: number,
  { code, message }: ServerReport,
  cause: RestError,
): PurserError {
  const fault = findSupabaseKeyFault(target.secretKey, target.url, Date.now() / 1000);
  const causes =
    fault !== null
      ? `It ${fault.problem}. ${fault.fix}`
      : code === '42501'
        ? 'Its role lacks a right that the migration grants: apply it with `npm run migrate`, or ' +
          'paste the files of sql/ into the Supabase SQL editor.'
        : 'It may belong to another project than SUPABASE_URL, be deleted, or be a legacy key in ' +
          'a project that has switched those off. Copy a secret key from Supabase: Project ' +
          'settings, API keys.';
  return setUp(
    `Supabase refuses SUPABASE_SECRET_KEY (HTTP ${status}${code && ` ${code}`}: ${message}). ${causes}`,
    cause,
  );
}

function setUp(detail: string, cause: RestError): PurserError {
  return new PurserError('dependency_down', { detail, cause });
}

/** Bodies are JSON of PostgREST, JSON of the gateway, or a page of a proxy in between. */
function readReport(body: unknown): ServerReport {
  const fields = (body ?? {}) as Record<string, unknown>;
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return {
    code: text(fields.code),
    message: text(fields.message) || text(fields.msg) || text(fields.error) || 'no explanation',
    detail: text(fields.details) || undefined,
  };
}

/** One line of bounded length: of a page its title. What echoes the key does not show it. */
function shorten(text: string, { secretKey }: RestTarget): string {
  const title = /<title[^>]*>([^<]*)<\/title>/i.exec(text)?.[1];
  const words = title ?? (/^\s*</.test(text) ? 'a page instead of an answer' : text);
  const line = words.replaceAll(secretKey, '[key]').replace(/\s+/g, ' ').trim();
  return line.length > TEXT_LENGTH_MAX ? `${line.slice(0, TEXT_LENGTH_MAX)}...` : line;
}
