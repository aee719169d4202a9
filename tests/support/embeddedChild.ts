/**
 * A process that uses the embedded database of a folder, for tests of what happens when it ends:
 *   embeddedChild.ts <dataDir> hold   stops properly on SIGINT and SIGTERM, as the server does
 *   embeddedChild.ts <dataDir> exit   leaves by process.exit without stopping
 * Prints one line of JSON when the database accepts connections.
 */
import { startEmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';

const [dataDir = '', mode = 'hold'] = process.argv.slice(2);
const server = await startEmbeddedPostgres({ dataDir });
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void server.stop().then(() => process.exit(0)));
}
process.stdout.write(`${JSON.stringify(server)}\n`, () => {
  if (mode === 'exit') process.exit(0);
});
setInterval(() => undefined, 60_000);
