/** Databases of apps that were there before Purser, of each Postgres version and owner. */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { PurserError } from '../../src/core/errors.ts';
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { type MigrateOptions, type MigrateResult, migrate } from '../../src/supabase/migrate.ts';
import { STUBS_FILE } from '../../src/supabase/migrations.ts';
import { clusterUrl } from './postgres.ts';
import { createTempFolder } from './tempFolder.ts';
import { migrationFilesOfFolder } from './testCluster.ts';

/** A cluster with somebody who migrates: the superuser, or an owner as Supabase's `postgres` is. */
export interface AppSite {
  /** A database with Supabase's roles and auth schema, and what `setup` makes in it as the owner. */
  create(setup: string): Promise<AppDatabase>;
  stop(): Promise<void>;
}

export interface AppDatabase {
  /** As whoever migrates. */
  connectionString: string;
  superuserUrl: string;
  /** Statements as whoever migrates; the rows of the last. */
  query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>;
  asSuperuser<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>;
  migrate(options?: Partial<MigrateOptions>): Promise<MigrateResult>;
  /** The message with which the migration stops; fails when it does not. */
  stopOf(options?: Partial<MigrateOptions>): Promise<string>;
  /** Everything in it that a migration which stopped, or ran again, must not change. */
  fingerprint(): Promise<unknown>;
}

export interface SiteOptions {
  /** Of the run's own cluster, or a cluster of its own of this npm package. */
  packageName?: string;
  owner: 'superuser' | 'owner';
}

export async function openAppSite({ packageName, owner }: SiteOptions): Promise<AppSite> {
  const folder = packageName === undefined ? undefined : createTempFolder('apps');
  const server =
    folder && packageName
      ? await startEmbeddedPostgres({ dataDir: folder.dir, packageName })
      : undefined;
  const suffix = randomBytes(4).toString('hex');
  const urlOf = (database: string, user?: string) => {
    const url = new URL(server?.connectionString ?? clusterUrl());
    url.pathname = `/${database}`;
    if (user !== undefined) {
      url.username = user;
      url.password = 'secret';
    }
    return url.toString();
  };
  const template = `apps_${suffix}`;
  const role = owner === 'owner' ? `owner_${suffix}` : undefined;
  await run(urlOf('postgres'), `create database ${template} template template0`);
  const stubs = migrationFilesOfFolder().find((file) => file.name === STUBS_FILE);
  await run(urlOf(template), stubs?.sql ?? '');
  if (role !== undefined) await run(urlOf(template), makeOwner(role));
  const made: string[] = [];
  return {
    async create(setup) {
      const name = `app_${suffix}_${made.length + 1}`;
      made.push(name);
      await run(
        urlOf('postgres'),
        `create database ${name} template ${template} ${role ? `owner ${role}` : ''}`,
      );
      const database = appDatabase(urlOf(name, role), urlOf(name));
      await database.query(setup);
      return database;
    },
    async stop() {
      if (server) {
        await server.stop();
        folder?.remove();
        return;
      }
      for (const name of [...made, template]) {
        if (role && name === template) await run(urlOf(name), `drop owned by ${role}`);
        await run(urlOf('postgres'), `drop database ${name} with (force)`);
      }
      if (role) await run(urlOf('postgres'), `drop owned by ${role}; drop role ${role}`);
    },
  };
}

/** What Supabase's `postgres` role may do: create roles, bypass RLS, use auth; no superuser. */
function makeOwner(role: string): string {
  return `
    create role ${role} login password 'secret' createrole bypassrls;
    grant anon, authenticated, service_role to ${role};
    grant usage on schema auth to ${role};
    grant all on auth.users to ${role};
    do $$ begin
      if exists (select from pg_roles where rolname = 'purser_ledger')
         and current_setting('server_version_num')::int >= 160000 then
        execute 'grant purser_ledger to ${role} with admin true, inherit false, set false';
      end if;
    end $$;`;
}

function appDatabase(connectionString: string, superUrl: string): AppDatabase {
  const options = (given: Partial<MigrateOptions>): MigrateOptions => ({
    connectionString,
    files: migrationFilesOfFolder(),
    ...given,
  });
  return {
    connectionString,
    superuserUrl: superUrl,
    query: (text, values) => run(connectionString, text, values),
    asSuperuser: (text, values) => run(superUrl, text, values),
    migrate: (given = {}) => migrate(options(given)),
    async stopOf(given = {}) {
      const error = await migrate(options(given)).then(
        () => new Error('the migration went through'),
        (reason: unknown) => reason,
      );
      if (error instanceof PurserError) return error.message;
      throw error;
    },
    async fingerprint() {
      const [row] = await run<{ found: unknown }>(superUrl, FINGERPRINT);
      return row?.found;
    },
  };
}

async function run<R extends pg.QueryResultRow>(
  connectionString: string,
  text: string,
  values?: unknown[],
): Promise<R[]> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    const result = await client.query<R>(text, values);
    const last = Array.isArray(result) ? (result as pg.QueryResult<R>[]).at(-1) : result;
    return last?.rows ?? [];
  } finally {
    await client.end();
  }
}

/** Catalogue of public and purser, and the rows of every table there, as text. */
const FINGERPRINT = `
  select jsonb_build_object(
    'relations', (
      select jsonb_agg(jsonb_build_array(c.oid::regclass, c.relkind, c.relowner::regrole, c.relrowsecurity,
        c.relforcerowsecurity, c.relacl::text, c.oid) order by c.oid::regclass::text)
      from pg_class c where c.relnamespace in (select oid from pg_namespace where nspname in ('public', 'purser'))
        and c.relkind in ('r', 'p', 'v', 'm', 'S', 'i')),
    'columns', (
      select jsonb_agg(jsonb_build_array(a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull, a.attacl::text, pg_get_expr(d.adbin, d.adrelid)) order by a.attrelid::regclass::text, a.attnum)
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where c.relnamespace in (select oid from pg_namespace where nspname in ('public', 'purser'))
        and a.attnum > 0 and not a.attisdropped),
    'constraints', (
      select jsonb_agg(jsonb_build_array(conrelid::regclass, conname, pg_get_constraintdef(oid)) order by conrelid::regclass::text, conname)
      from pg_constraint where connamespace in (select oid from pg_namespace where nspname in ('public', 'purser'))),
    'policies', (
      select jsonb_agg(to_jsonb(p) order by p.tablename, p.policyname) from pg_policies p where p.schemaname = 'public'),
    'triggers', (
      select jsonb_agg(jsonb_build_array(tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid)) order by tgrelid::regclass::text, tgname)
      from pg_trigger where not tgisinternal),
    'functions', (
      select jsonb_agg(jsonb_build_array(p.oid::regprocedure::text, p.proowner::regrole, p.proacl::text, md5(p.prosrc)) order by p.oid::regprocedure::text)
      from pg_proc p where p.pronamespace in (select oid from pg_namespace where nspname in ('public', 'purser'))),
    'rows', (
      select jsonb_agg(jsonb_build_array(c.oid::regclass,
        query_to_xml(format('select md5(string_agg(t::text, '','' order by t::text)) from %s t', c.oid::regclass), false, false, '')::text)
        order by c.oid::regclass::text)
      from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'),
    'members', (
      select jsonb_agg(member::regrole::text) from pg_auth_members
      where roleid = to_regrole('purser_ledger') and not admin_option)) as found`;
