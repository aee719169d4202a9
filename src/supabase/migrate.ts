/** Brings a database to the schema of this version: applies the files of sql/ that changed. */
import { setTimeout as sleepMs } from 'node:timers/promises';
import pg from 'pg';
import { PurserError } from '../core/errors.ts';
import type { Logger } from '../core/ports.ts';
import { describeChanges, takeSnapshot } from './migrationChanges.ts';
import {
  AUTH_TRIGGER_FILE,
  authTriggerFile,
  checksumOf,
  type MigrationFile,
  migrationFiles,
  STUBS_FILE,
} from './migrations.ts';
import { connectionConfig } from './pgConnection.ts';
import { classifyPgError } from './pgErrors.ts';
import { withRetry } from './retry.ts';
import { lineAt, type SqlStatement, splitSql } from './sqlStatements.ts';

/** Waiting for another process that migrates the same database. */
const MIGRATION_LOCK_TIMEOUT_MS = 120_000;
/** Waiting for the app's own transactions; longer, and its queries would queue behind ours. */
const TABLE_LOCK_TIMEOUT_MS = 15_000;
/** A statement that rewrites a large table may take long; hosts often set less than it needs. */
const STATEMENT_TIMEOUT_MS = 1_800_000;
const CONNECT_TIMEOUT_MS = 10_000;
const STATEMENT_EXCERPT_CHARS = 120;
/** Any number, the same in every version: it names the lock "migrates Purser" in this database. */
const LOCK_KEY = 4_728_113_350_201;
/**
 * Roles are shared by all databases of a cluster, which has no lock over databases: somebody who
 * changes the same role at the same moment makes one of both fail with one of these. 55P03: the
 * membership of purser_ledger is held until the other's migration has ended, which may take longer
 * than a lock is waited for; a table that is busy for a moment is given the same time.
 */
const CLUSTER_RACE = new Set(['XX000', '23505', '42710', '40001', '40P01', '55P03']);
/** Errors that the files raise when the database they were given is not fit for them, so marked. */
const STOPS = new Set(['55000', '42P07', '42501']);
const NOTHING_CHANGED = 'Nothing was changed.';
const RUN_RETRY = { attemptsMax: 10, budgetMs: 60_000, baseDelayMs: 100, delayMaxMs: 1_000 };

export interface MigrateOptions {
  connectionString: string;
  /**
   * Applies what is due and takes it back: rejects as the real run would, and leaves nothing. It
   * holds the same locks while it runs.
   */
  dryRun?: boolean;
  /** Renames the app's own tables and functions that bear names of Purser's, instead of stopping. */
  moveAside?: boolean;
  /** Also applies sql/supabase_auth_trigger.sql; once applied, later runs keep it up to date. */
  authTrigger?: boolean;
  /** Applies every file again, for a database whose objects were changed by hand. */
  force?: boolean;
  logger?: Logger;
  /** Default: the files this version carries. */
  files?: readonly MigrationFile[];
}

export interface AppliedFile {
  file: string;
  reason: 'new' | 'changed' | 'forced';
  statements: number;
}

export interface MigrateResult {
  dryRun: boolean;
  /** In the order they were (or would be) applied. */
  applied: AppliedFile[];
  unchanged: string[];
  /** Left out because the database has what they provide (Supabase's own roles). */
  notNeeded: string[];
  /** What became (or would become) of the database, in sentences. */
  changes: string[];
}

/**
 * Applies what changed, by checksum, all in one transaction under an advisory lock: any number of
 * processes may do it at once, and a database is never left between two versions. The lock lives
 * in the transaction, so a transaction pooler is no obstacle. Rejects with a PurserError that
 * names file, line, statement and SQLSTATE, or lists what in the database stands in the way.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const client = new pg.Client({
    ...connectionConfig(options.connectionString),
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: 'purser migrate',
  });
  client.on('error', () => {
    // The statement under way rejects with the same error.
  });
  client.on('notice', (notice) => forwardNotice(options.logger, notice));
  const deps = {
    random: Math.random,
    sleep: (ms: number) => sleepMs(ms),
    monotonicMs: () => performance.now(),
  };
  try {
    await client.connect();
    const result = await withRetry(
      deps,
      RUN_RETRY,
      () => runInTransaction(client, options),
      (error) => error instanceof PurserError && CLUSTER_RACE.has(sqlStateOf(error)),
    );
    for (const applied of result.dryRun ? [] : result.applied) {
      options.logger?.info(`Applied ${applied.file}`, { ...applied });
    }
    return result;
  } catch (error) {
    throw error instanceof PurserError
      ? error
      : classifyPgError(error, { functionName: 'the migration', sent: false }).error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function runInTransaction(
  client: pg.Client,
  options: MigrateOptions,
): Promise<MigrateResult> {
  await client.query('begin');
  try {
    const result = await applyDueFiles(client, options);
    await client.query(result.dryRun ? 'rollback' : 'commit');
    return result;
  } catch (error) {
    // A lost connection has rolled back already, and its own error is the one to report.
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

interface DueFile extends AppliedFile {
  statementsToRun: SqlStatement[];
  checksum: string;
}

async function applyDueFiles(client: pg.Client, options: MigrateOptions): Promise<MigrateResult> {
  await client.query(`set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
  await takeLock(client);
  await ensureRecord(client);
  const result: MigrateResult = {
    dryRun: options.dryRun === true,
    applied: [],
    unchanged: [],
    notNeeded: [],
    changes: [],
  };
  const due: DueFile[] = [];
  for (const file of await filesOf(client, options)) {
    const verdict = await dueFile(client, file, options.force === true);
    if (verdict === 'unchanged') result.unchanged.push(file.name);
    else if (verdict === 'not_needed') result.notNeeded.push(file.name);
    else due.push(verdict);
  }
  const before = await takeSnapshot(client);
  for (const [index, file] of due.entries()) {
    // The last file judges what all of them moved aside, so that one list names everything.
    const mode = options.moveAside ? 'yes' : index < due.length - 1 ? 'later' : '';
    await client.query(`select set_config('purser.move_aside', $1, true)`, [mode]);
    await applyFile(client, file);
    const { file: name, reason, statements } = file;
    result.applied.push({ file: name, reason, statements });
  }
  result.changes = await describeChanges(client, before, await takeSnapshot(client));
  return result;
}

async function filesOf(client: pg.Client, options: MigrateOptions): Promise<MigrationFile[]> {
  const files = [...(options.files ?? migrationFiles())];
  const wanted =
    options.authTrigger === true || (await recordedChecksum(client, AUTH_TRIGGER_FILE)) !== null;
  return wanted ? [...files, authTriggerFile()] : files;
}

async function dueFile(
  client: pg.Client,
  file: MigrationFile,
  force: boolean,
): Promise<DueFile | 'unchanged' | 'not_needed'> {
  const recorded = await recordedChecksum(client, file.name);
  const checksum = checksumOf(file.sql);
  if (recorded === null && file.name === STUBS_FILE && (await isSupabaseLike(client))) {
    return 'not_needed';
  }
  if (recorded === checksum && !force) return 'unchanged';
  const statementsToRun = splitSql(file.sql).filter(
    (statement) => !isTransactionControl(statement),
  );
  return {
    file: file.name,
    reason: recorded === null ? 'new' : recorded === checksum ? 'forced' : 'changed',
    statements: statementsToRun.length,
    statementsToRun,
    checksum,
  };
}

async function applyFile(client: pg.Client, due: DueFile): Promise<void> {
  for (const statement of due.statementsToRun) await runStatement(client, due.file, statement);
  // A file may end in another role, and may have given the record's schema away.
  await client.query('reset role');
  await ensureRecord(client);
  await client.query(
    `insert into purser.applied_files (file, checksum) values ($1, $2)
     on conflict (file) do update set checksum = excluded.checksum, applied_at = clock_timestamp()`,
    [due.file, due.checksum],
  );
}

async function takeLock(client: pg.Client): Promise<void> {
  await client.query(`set local lock_timeout = ${MIGRATION_LOCK_TIMEOUT_MS}`);
  try {
    await client.query('select pg_advisory_xact_lock($1)', [LOCK_KEY]);
  } catch (error) {
    if ((error as { code?: string }).code !== '55P03') throw error;
    throw new PurserError('dependency_down', {
      detail:
        `Another process has been migrating this database for ${MIGRATION_LOCK_TIMEOUT_MS / 1000} s. ` +
        'Wait for it or end it, then run the migration again: nothing was changed.',
      cause: error,
    });
  }
  await client.query(`set local lock_timeout = ${TABLE_LOCK_TIMEOUT_MS}`);
}

/** The table of what was applied, in a state this role can read and write. */
async function ensureRecord(client: pg.Client): Promise<void> {
  // Asked first: a role that may use the schema need not be allowed to create one.
  if ((await recordAccess(client)) === 'no_schema') await client.query('create schema purser');
  if ((await recordAccess(client)) === 'no_right') await borrowSchemaRights(client);
  if ((await recordAccess(client)) === 'no_table') {
    await client.query(
      `create table purser.applied_files (
         file text primary key,
         checksum text not null,
         applied_at timestamptz not null default clock_timestamp()
       )`,
    );
  }
}

type RecordAccess = 'no_schema' | 'no_right' | 'no_table' | 'ready';

async function recordAccess(client: pg.Client): Promise<RecordAccess> {
  const { rows } = await client.query(
    `select case
              when n.oid is null then 'no_schema'
              when not has_schema_privilege(n.oid, 'usage')
                or (c.oid is null and not has_schema_privilege(n.oid, 'create')) then 'no_right'
              when c.oid is null then 'no_table'
              else 'ready'
            end as access
       from (values (1)) as one
       left join pg_namespace n on n.nspname = 'purser'
       left join pg_class c on c.relnamespace = n.oid and c.relname = 'applied_files'`,
  );
  return (rows[0] as { access: RecordAccess }).access;
}

/**
 * The first area file gives the schema to a role of its own that nobody is a member of. A migrating
 * role that is no superuser then has to be granted what it needs for the record, as that role.
 */
async function borrowSchemaRights(client: pg.Client): Promise<void> {
  const { rows } = await client.query(
    `select quote_ident(pg_get_userbyid(nspowner)) as owner, quote_ident(current_user) as me
       from pg_namespace where nspname = 'purser'`,
  );
  const { owner, me } = rows[0] as { owner: string; me: string };
  await client.query(`grant ${owner} to ${me}`);
  await client.query(`set local role ${owner}`);
  await client.query(`grant usage, create on schema purser to ${me}`);
  await client.query('reset role');
  await client.query(`revoke ${owner} from ${me}`);
}

async function recordedChecksum(client: pg.Client, name: string): Promise<string | null> {
  if ((await recordAccess(client)) !== 'ready') return null;
  const { rows } = await client.query('select checksum from purser.applied_files where file = $1', [
    name,
  ]);
  return (rows[0] as { checksum: string } | undefined)?.checksum ?? null;
}

async function isSupabaseLike(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query(
    `select (select count(*) from pg_roles
              where rolname in ('anon', 'authenticated', 'service_role')) = 3
            and to_regnamespace('auth') is not null as complete`,
  );
  return (rows[0] as { complete: boolean }).complete;
}

async function runStatement(
  client: pg.Client,
  file: string,
  statement: SqlStatement,
): Promise<void> {
  try {
    await client.query(statement.text);
  } catch (error) {
    throw statementError(file, statement, error);
  }
}

function statementError(file: string, statement: SqlStatement, cause: unknown): PurserError {
  const fields = cause as pg.DatabaseError;
  const offset = fields.position ? lineAt(statement.text, Number(fields.position) - 1) - 1 : 0;
  const line = statement.line + offset;
  return new PurserError('dependency_down', {
    detail: (STOPS.has(fields.code ?? '') && fields.hint?.includes(NOTHING_CHANGED)
      ? stopLines(fields)
      : failureLines(file, line, statement, fields)
    ).join('\n'),
    extensions: { file, line, sqlstate: fields.code ?? null },
    cause,
  });
}

/** What a file says on purpose about the database it was given: the list, without SQL around it. */
function stopLines(fields: pg.DatabaseError): string[] {
  return [
    `Stopped: ${fields.message}.`,
    ...(fields.detail ?? '').split('\n').flatMap((line) => (line === '' ? [] : [`  - ${line}`])),
    fields.hint ?? '',
  ];
}

function failureLines(
  file: string,
  line: number,
  statement: SqlStatement,
  fields: pg.DatabaseError,
): string[] {
  const excerpt = statement.text.replaceAll(/\s+/g, ' ').slice(0, STATEMENT_EXCERPT_CHARS);
  return [
    `${file}, line ${line}: ${fields.message} (SQLSTATE ${fields.code ?? 'none'})`,
    `in: ${excerpt}${excerpt.length === STATEMENT_EXCERPT_CHARS ? ' ...' : ''}`,
    ...(fields.detail ? [`detail: ${fields.detail}`] : []),
    ...(fields.hint ? [`hint: ${fields.hint}`] : []),
    ...(fields.code === '55P03'
      ? ['hint: Another session holds a lock for long; stop it or migrate at a quieter time.']
      : []),
    'Everything was rolled back; fix the cause and run the migration again.',
  ];
}

function sqlStateOf(error: PurserError): string {
  return String(error.extensions.sqlstate ?? '');
}

/** A file may carry its own begin and commit for those who paste it; here the run gives them. */
function isTransactionControl(statement: SqlStatement): boolean {
  return /^(begin|start\s+transaction|commit|end)(\s+(work|transaction))?$/i.test(statement.text);
}

/** What a file says on purpose is shown; "already exists, skipping" is not news. */
function forwardNotice(
  logger: Logger | undefined,
  notice: {
    severity?: string | undefined;
    code?: string | undefined;
    message?: string | undefined;
  },
): void {
  const message = notice.message ?? '';
  if (notice.severity === 'WARNING') logger?.warn(message);
  else if (notice.code === '00000') logger?.info(message);
  else logger?.debug(message);
}
