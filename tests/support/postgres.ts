/** A migrated database of its own for each test file, and sessions in Supabase's roles. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect } from '@jest/globals';
import pg from 'pg';
import { APP_USERS, appUserId } from './existingApp.ts';

/**
 * Which users the tests have: those of Purser's own table (text ids), or those of an existing app
 * (uuid ids that reference auth.users, 1,000 others beside them). jest.config.js runs both.
 */
export const testUsers: 'text' | 'uuid' =
  (globalThis as { PURSER_TEST_USERS?: string }).PURSER_TEST_USERS === 'uuid' ? 'uuid' : 'text';
const TEMPLATE_DATABASE = testUsers === 'uuid' ? 'purser_template_app' : 'purser_template';
/** Copying is refused while somebody is connected to the template, if only autovacuum. */
const CREATE_ATTEMPTS = 20;

export type SupabaseRole = 'anon' | 'authenticated' | 'service_role';

export interface TestDatabase {
  name: string;
  /** As the superuser that owns the cluster. */
  connectionString: string;
  /** One statement as superuser; the rows. */
  query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>;
  /**
   * Runs `work` in a transaction as one of Supabase's roles, with the claims an API server would
   * have verified. Committed when `work` succeeds.
   */
  asRole<T>(
    role: SupabaseRole,
    claims: Record<string, unknown>,
    work: (client: pg.PoolClient) => Promise<T>,
  ): Promise<T>;
  /** Closes the connections and removes the database. */
  drop(): Promise<void>;
  /** Closes the connections and leaves the database. */
  close(): Promise<void>;
}

const namedUsers = new Map<string, string>();

/**
 * An id for the user a test calls `name`, in the form of the database under test, without a row in
 * public.users yet. The same name is the same id within a test file.
 */
export function userId(name: string): string {
  if (testUsers === 'text') return name;
  const known = namedUsers.get(name);
  if (known !== undefined) return known;
  if (namedUsers.size === APP_USERS)
    throw new Error(`${APP_USERS} sign-ups wait for a row, no more`);
  const id = appUserId(APP_USERS + namedUsers.size + 1);
  namedUsers.set(name, id);
  return id;
}

/** Address of the run's cluster (its maintenance database), as superuser. */
export function clusterUrl(database = 'postgres'): string {
  const text = process.env.PURSER_TEST_CLUSTER_URL;
  if (!text) throw new Error('This run has no Postgres: tests/support/globalSetup.js did not run.');
  const url = new URL(text);
  url.pathname = `/${database}`;
  return url.toString();
}

/**
 * A copy of the migrated template (or an empty database with `template: 'template0'`), to be
 * dropped by the caller. Inside a test file prefer `testDatabase`.
 */
export async function createTestDatabase(
  options: { template?: string } = {},
): Promise<TestDatabase> {
  const name = `t_${process.env.JEST_WORKER_ID ?? '0'}_${randomBytes(6).toString('hex')}`;
  await asAdmin((admin) => createFromTemplate(admin, name, options.template ?? TEMPLATE_DATABASE));
  const connectionString = clusterUrl(name);
  const pool = new pg.Pool({ connectionString, max: 10 });
  // Tests kill connections on purpose, idle ones and others.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return {
    name,
    connectionString,
    query: async <R extends pg.QueryResultRow>(text: string, values?: unknown[]) =>
      (await pool.query<R>(text, values)).rows,
    asRole: (role, claims, work) => runAsRole(pool, role, claims, work),
    close: () => pool.end(),
    async drop() {
      await pool.end();
      await asAdmin((admin) => admin.query(`drop database if exists ${name} with (force)`));
    },
  };
}

/**
 * Registers the life of one database for the calling test file: made before its tests, dropped
 * after them, kept and printed when one of them failed (PURSER_TEST_KEEP=no: dropped all the same).
 */
export function testDatabase(): { readonly current: TestDatabase } {
  const holder: { database?: TestDatabase } = {};
  beforeAll(async () => {
    holder.database = await createTestDatabase();
  });
  afterAll(async () => {
    const database = holder.database;
    if (!database) return;
    if (!anyTestFailed() || process.env.PURSER_TEST_KEEP === 'no') {
      await database.drop();
      return;
    }
    await database.close();
    writeFileSync(path.join(process.env.PURSER_TEST_KEPT_FOLDER ?? '.', database.name), '');
    process.stderr.write(`Kept ${database.name} of ${expect.getState().testPath}\n`);
  });
  return {
    get current() {
      if (!holder.database) throw new Error('The test database exists only inside tests.');
      return holder.database;
    },
  };
}

/** Runs `work` with one connection to the maintenance database. */
export async function asAdmin<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: clusterUrl() });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function createFromTemplate(admin: pg.Client, name: string, template: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await admin.query(`create database ${name} template ${template}`);
      return;
    } catch (error) {
      if ((error as pg.DatabaseError).code !== '55006' || attempt === CREATE_ATTEMPTS) throw error;
    }
  }
}

async function runAsRole<T>(
  pool: pg.Pool,
  role: SupabaseRole,
  claims: Record<string, unknown>,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    await client.query(
      `select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)`,
      [role, JSON.stringify({ role, ...claims })],
    );
    const answer = await work(client);
    await client.query('commit');
    return answer;
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

interface CircusBlock {
  children: Array<{ type: 'describeBlock' | 'test'; errors?: unknown[] } & Partial<CircusBlock>>;
}

/**
 * Jest tells hooks nothing of results, but its state lies in the file's global object. Where it is
 * not found the answer is true: data kept needlessly is the lesser evil, and it is printed.
 */
function anyTestFailed(): boolean {
  const symbol = Object.getOwnPropertySymbols(globalThis).find(
    (candidate) => candidate.description === 'JEST_STATE_SYMBOL',
  );
  const state = symbol && (globalThis as unknown as Record<symbol, unknown>)[symbol];
  const root = (state as { rootDescribeBlock?: CircusBlock } | undefined)?.rootDescribeBlock;
  return root ? hasFailure(root) : true;
}

function hasFailure(block: CircusBlock): boolean {
  return block.children.some((child) =>
    child.type === 'test' ? (child.errors?.length ?? 0) > 0 : hasFailure(child as CircusBlock),
  );
}
