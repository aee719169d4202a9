/** A migrated Postgres of a bench's own: the embedded one with its real, durable settings. */
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { migrate } from '../../src/supabase/migrate.ts';
import { createTempFolder } from '../../tests/support/tempFolder.ts';

export interface BenchPostgres {
  /** As superuser. */
  connectionString: string;
  /** The server, whose CPU time counts with that of its descendants. */
  pid: number;
  version: string;
  /** One statement as superuser; the rows. */
  query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>;
  stop(): Promise<void>;
}

export async function startBenchPostgres(): Promise<BenchPostgres> {
  const folder = createTempFolder('bench');
  const server = await startEmbeddedPostgres({ dataDir: folder.dir });
  const { connectionString, pid } = server;
  await migrate({ connectionString });
  const pool = new pg.Pool({ connectionString, max: 2 });
  pool.on('error', () => {
    // The server ends its connections when it stops.
  });
  const query = async <R extends pg.QueryResultRow>(text: string, values?: unknown[]) =>
    (await pool.query<R>(text, values)).rows;
  const [row] = await query<{ server_version: string }>('show server_version');
  return {
    connectionString,
    pid,
    version: row?.server_version ?? 'unknown',
    query,
    async stop() {
      await pool.end();
      await server.stop();
      folder.remove();
    },
  };
}
