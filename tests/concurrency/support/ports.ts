/** Both ways to one database, for tests that use them at the same time. */
import { afterAll, beforeAll } from '@jest/globals';
import type { Database } from '../../../src/core/ports.ts';
import { createPgDatabase } from '../../../src/supabase/pgDatabase.ts';
import { createSupabaseDatabase } from '../../../src/supabase/supabaseDatabase.ts';
import { type TestDatabase, testDatabase } from '../../support/postgres.ts';
import { type Postgrest, startPostgrest } from '../../support/postgrest.ts';

export interface BothPorts {
  readonly database: TestDatabase;
  /** The pg adapter, and supabase-js over the stand-in for PostgREST. */
  readonly ports: Database[];
}

/** Registers a database and both adapters for the calling test file. */
export function bothPorts(): BothPorts {
  const ports: Database[] = [];
  let postgrest: Postgrest;
  // Before the hook that drops the database: hooks run in the order in which they are written.
  afterAll(async () => {
    await Promise.all(ports.map((port) => port.close()));
    await postgrest.stop();
  });
  const database = testDatabase();
  beforeAll(async () => {
    const { connectionString } = database.current;
    postgrest = await startPostgrest({ connectionString });
    ports.push(
      createPgDatabase({ connectionString, poolMax: 16 }),
      createSupabaseDatabase({ url: postgrest.url, secretKey: postgrest.keys.secret }),
    );
  });
  return {
    get database() {
      return database.current;
    },
    ports,
  };
}
