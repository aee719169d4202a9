/**
 * `purser migrate`, `npm run migrate`: brings the database of DATABASE_URL, or the embedded one, to the schema of
 * this version.
 */
import { parseArgs } from 'node:util';
import { readVariables } from '../config/readVariables.ts';
import { SettingsError } from '../config/settingsError.ts';
import { PurserError } from '../core/errors.ts';
import type { Logger } from '../core/ports.ts';
import { embeddedPostgresExists, startEmbeddedPostgres } from '../supabase/embeddedPostgres.ts';
import { type MigrateResult, migrate } from '../supabase/migrate.ts';
import { AREA_FILES, migrationFiles } from '../supabase/migrations.ts';

const USAGE = `Usage: npm run migrate [-- options]

Applies the SQL files that are new or changed, in one transaction, to the database of DATABASE_URL, or to the embedded
database in PURSER_DATA_DIR (default .purser/) when DATABASE_URL is not set.

  --dry-run       apply everything in one transaction, print what changes, and take it back. Ends
                  with 1 and the list when something in your database stands in the way. Holds the
                  locks of a real run while it lasts, so large tables of users wait meanwhile.
  --move-aside    rename tables and functions of your own that bear names of Purser's to
                  <name>_before_purser; without it they stop the migration
  --auth-trigger  also make a row in public.users for everybody in auth.users and each sign-up
  --force         apply every file again, also unchanged ones
  --verbose       print the notices of the database
  --help          print this text
`;

const PASTE_ORDER = AREA_FILES.filter((name) => name !== 'supabase_stubs.sql');

export interface MigrateCommand {
  args: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  print: (line: string) => void;
  printError: (line: string) => void;
}

const FLAGS = {
  'dry-run': { type: 'boolean' },
  'move-aside': { type: 'boolean' },
  'auth-trigger': { type: 'boolean' },
  force: { type: 'boolean' },
  verbose: { type: 'boolean' },
  help: { type: 'boolean' },
} as const;
type Flag = keyof typeof FLAGS;

/** Runs the command; resolves with the exit code: 0 done, 1 failed, 2 wrong usage. */
export async function runMigrate(command: MigrateCommand): Promise<number> {
  let flags: { [flag in Flag]?: boolean };
  try {
    flags = parseArgs({
      args: [...command.args],
      options: FLAGS,
    }).values;
  } catch (error) {
    command.printError(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (flags.help) {
    command.print(USAGE);
    return 0;
  }
  try {
    checkAddress(command.env);
    const options = {
      dryRun: flags['dry-run'] === true,
      moveAside: flags['move-aside'] === true,
      authTrigger: flags['auth-trigger'] === true,
      force: flags.force === true,
      logger: noticeLogger(command, flags.verbose === true),
    };
    if (command.env.DATABASE_URL) await migrateAddress(command, command.env.DATABASE_URL, options);
    else await migrateEmbedded(command, options);
    return 0;
  } catch (error) {
    if (error instanceof SettingsError) command.printError(error.message);
    else if (error instanceof PurserError)
      command.printError(`Migration failed.\n${error.message}`);
    else throw error;
    return 1;
  }
}

interface Options {
  dryRun: boolean;
  moveAside: boolean;
  authTrigger: boolean;
  force: boolean;
  logger: Logger;
}

async function migrateAddress(
  command: MigrateCommand,
  connectionString: string,
  options: Options,
): Promise<void> {
  command.print(`Database: ${withoutSecrets(connectionString)}`);
  report(command, await migrate({ connectionString, ...options }));
}

async function migrateEmbedded(command: MigrateCommand, options: Options): Promise<void> {
  const { env } = command;
  if (env.SUPABASE_URL) throw needsDirectConnection();
  if (env.NODE_ENV === 'production' && env.PURSER_ALLOW_EMBEDDED !== '1') {
    throw new PurserError('dependency_down', {
      detail:
        'DATABASE_URL is not set, and NODE_ENV=production does not use the embedded database. Set ' +
        'DATABASE_URL, or PURSER_ALLOW_EMBEDDED=1 if the embedded database is what you want.',
    });
  }
  const dataDir = env.PURSER_DATA_DIR || '.purser';
  if (options.dryRun && !embeddedPostgresExists(dataDir)) {
    command.print(`Database: embedded, in ${dataDir}, to be created`);
    for (const file of migrationFiles()) command.print(`  would apply  ${file.name} (new)`);
    return;
  }
  const server = await startEmbeddedPostgres({ dataDir });
  try {
    command.print(`Database: embedded, in ${dataDir} (${server.how}, port ${server.port})`);
    report(command, await migrate({ connectionString: server.connectionString, ...options }));
  } finally {
    await server.stop();
  }
}

function report(command: MigrateCommand, result: MigrateResult): void {
  const verb = result.dryRun ? 'would apply' : 'applied';
  for (const { file, reason, statements } of result.applied) {
    command.print(`  ${verb.padEnd(11)}  ${file} (${reason}, ${statements} statements)`);
  }
  for (const file of result.unchanged) command.print(`  unchanged    ${file}`);
  for (const file of result.notNeeded) {
    command.print(`  not needed   ${file} (the database has Supabase's roles)`);
  }
  for (const change of result.changes) command.print(`  ${change}`);
  if (result.applied.length === 0) command.print('The schema is up to date.');
  else if (result.dryRun) command.print('Nothing was changed: this was a dry run.');
  else command.print('The schema is ready.');
}

function needsDirectConnection(): PurserError {
  return new PurserError('dependency_down', {
    detail:
      'SUPABASE_URL is set, but migrating needs a direct connection. Either set DATABASE_URL to the ' +
      'connection string of the project (Supabase dashboard, "Connect"), or paste these files of ' +
      `sql/ into the SQL editor in this order: ${PASTE_ORDER.join(', ')}; or copy them to ` +
      'supabase/migrations and run `supabase db push`.',
  });
}

/** A wrong address is told as the server tells it. Errors: `SettingsError`. */
function checkAddress({ DATABASE_URL }: MigrateCommand['env']): void {
  const { problems } = readVariables({ DATABASE_URL });
  if (problems.length > 0) throw new SettingsError(problems);
}

function withoutSecrets(connectionString: string): string {
  if (!URL.canParse(connectionString)) return 'of DATABASE_URL';
  const url = new URL(connectionString);
  return `${url.hostname}:${url.port || '5432'}${url.pathname}`;
}

/** Warnings are for whoever migrates; other notices only on demand. */
function noticeLogger(command: MigrateCommand, verbose: boolean): Logger {
  const onDemand = (message: string) => {
    if (verbose) command.print(`  ${message}`);
  };
  return {
    error: (message) => command.printError(message),
    warn: (message) => command.printError(`  warning: ${message}`),
    info: onDemand,
    debug: onDemand,
  };
}
