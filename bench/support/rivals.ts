/** The programs Purser is compared with. They are none of its dependencies. */
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** What is compared with, in the versions that were measured. */
const PACKAGES = [
  '@supabase/stripe-sync-engine@0.48.5',
  'better-auth@1.7.6',
  '@better-auth/stripe@1.7.6',
];
const FOLDER_VARIABLE = 'PURSER_BENCH_RIVALS';

// biome-ignore lint/suspicious/noExplicitAny: foreign packages, present only where a bench runs
type Foreign = any;

export interface Rivals {
  syncEngine: Foreign;
  betterAuth: Foreign;
  betterAuthMigrations: Foreign;
  betterAuthStripe: Foreign;
}

/** Loads them from the folder that PURSER_BENCH_RIVALS names (else this project); null = not there. */
export async function loadRivals(): Promise<Rivals | null> {
  const folder = path.resolve(process.env[FOLDER_VARIABLE] ?? '.');
  const require = createRequire(path.join(folder, 'package.json'));
  const find = (name: string): string | null => {
    try {
      return require.resolve(name);
    } catch {
      // Absent is an answer here: the bench says what to install.
      return null;
    }
  };
  const sync = find('@supabase/stripe-sync-engine');
  // These two are ESM only, so that their place is found through the folder itself.
  const esm = (name: string, file: string) => path.join(folder, 'node_modules', name, file);
  if (sync === null) {
    console.log(
      `The rivals are not installed. To compare with them:\n` +
        `  npm install --no-save --legacy-peer-deps ${PACKAGES.join(' ')}\n` +
        `(or into another folder, named by ${FOLDER_VARIABLE}), then run this bench again.`,
    );
    return null;
  }
  const load = (file: string): Promise<Foreign> => import(pathToFileURL(file).href);
  return {
    // Its CommonJS build: the other one does not find its own migrations.
    syncEngine: require('@supabase/stripe-sync-engine'),
    betterAuth: await load(esm('better-auth', 'dist/index.mjs')),
    betterAuthMigrations: await load(esm('better-auth', 'dist/db/get-migration.mjs')),
    betterAuthStripe: await load(esm('@better-auth/stripe', 'dist/index.mjs')),
  };
}
