import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';

/** The schema this version of the code was written for; see purser_schema_version in sql/. */
const SCHEMA_VERSION = 1;

/** Rejects, with the ways to mend it, when the database lacks what this version calls. */
export async function checkSchema(db: Database): Promise<void> {
  const { version } = await db.rpc<{ version: number }>('purser_schema_version');
  if (version >= SCHEMA_VERSION) return;
  throw new PurserError('dependency_down', {
    detail: `The database has schema version ${version}, this version of Purser needs ${SCHEMA_VERSION}. Apply the migration with \`npm run migrate\`, or paste the files of sql/ into the Supabase SQL editor, or copy them to supabase/migrations.`,
  });
}
