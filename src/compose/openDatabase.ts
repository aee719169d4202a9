import path from 'node:path';
import type { Settings } from '../config.ts';
import type { Database, Logger } from '../core/ports.ts';
import { startEmbeddedPostgres } from '../supabase/embeddedPostgres.ts';
import { migrate } from '../supabase/migrate.ts';
import { createPgDatabase } from '../supabase/pgDatabase.ts';

export interface OpenedDatabase {
  db: Database;
  /** One line for the start-up report. */
  description: string;
  stop(): Promise<void>;
}

/**
 * The embedded database is Purser's own, so it is migrated here; a database of the user's is
 * changed only by `npm run migrate`, and /readyz says when that is missing.
 */
export async function openDatabase(settings: Settings, logger: Logger): Promise<OpenedDatabase> {
  if (settings.databaseUrl !== null) {
    const db = createPgDatabase({ connectionString: settings.databaseUrl, logger });
    return {
      db,
      description: `Postgres at ${new URL(settings.databaseUrl).host} (DATABASE_URL)`,
      stop: () => db.close(),
    };
  }
  if (settings.supabase !== null) {
    const { url, secretKey } = settings.supabase;
    // Loaded only when it is used: a server on its own database starts without it.
    const { createSupabaseDatabase } = await import('../supabase/supabaseDatabase.ts');
    const db = createSupabaseDatabase({ url, secretKey: secretKey ?? '', logger });
    return {
      db,
      description: `Supabase at ${new URL(url).host}, over its Data API (SUPABASE_URL)`,
      stop: () => db.close(),
    };
  }
  const embedded = await startEmbeddedPostgres({ dataDir: settings.dataDir, logger });
  try {
    await migrate({ connectionString: embedded.connectionString, logger });
  } catch (error) {
    await embedded.stop();
    throw error;
  }
  const db = createPgDatabase({ connectionString: embedded.connectionString, logger });
  const folder = path.relative(process.cwd(), embedded.clusterDir);
  return {
    db,
    description: `embedded Postgres, ${embedded.how}, in ${folder.startsWith('..') ? embedded.clusterDir : folder}`,
    async stop() {
      await db.close();
      await embedded.stop();
    },
  };
}
