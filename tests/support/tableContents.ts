import type { Json } from '../../src/core/ports.ts';
import type { TestDatabase } from './postgres.ts';

/** What the jobs of a running server write by themselves. */
export const JOB_TABLES = [
  'scheduled_jobs',
  'credit_seals',
  'reconciliation_runs',
  'reconciliation_cursors',
];

/** Every row of every table of ours, and of users; `except` names tables to leave out. */
export async function tableContents(
  database: TestDatabase,
  except: readonly string[] = [],
): Promise<Record<string, Json[]>> {
  const tables = await database.query<{ name: string }>(
    `select relname as name from pg_class
     where relnamespace = 'public'::regnamespace and relkind = 'r'
       and (relowner = 'purser_ledger'::regrole or relname = 'users') order by 1`,
  );
  const contents: Record<string, Json[]> = {};
  for (const { name } of tables.filter((table) => !except.includes(table.name))) {
    const [row] = await database.query<{ rows: Json[] }>(
      `select coalesce(jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text), '[]') as rows from ${name} t`,
    );
    contents[name] = row?.rows ?? [];
  }
  return contents;
}
