/**
 * The real product with one fault at its database port, as a process of its own. Told through the
 * environment, beside the usual settings:
 *   FAULT_RPC   name of the database function
 *   FAULT_WHEN  before = the call is never sent; after = it has committed and nobody heard
 *   FAULT_NTH   the first call is 1
 *   FAULT_SIGNAL  SIGKILL ends the process on the spot; SIGSTOP freezes it there until SIGCONT
 */
import { listen } from '../../src/api/server.ts';
import { openDatabase } from '../../src/compose/openDatabase.ts';
import { compose } from '../../src/compose.ts';
import { parseSettings } from '../../src/config.ts';
import type { Database } from '../../src/core/ports.ts';
import { createLogger } from '../../src/observability/logger.ts';

const { FAULT_RPC, FAULT_WHEN, FAULT_NTH = '1', FAULT_SIGNAL = 'SIGKILL', ...env } = process.env;

function failing(db: Database): Database {
  let calls = 0;
  const fail = () => process.kill(process.pid, FAULT_SIGNAL);
  return {
    ...db,
    async rpc(name, args, options) {
      const isFault = name === FAULT_RPC && ++calls === Number(FAULT_NTH);
      if (isFault && FAULT_WHEN === 'before') fail();
      const answer = await db.rpc(name, args, options);
      if (isFault && FAULT_WHEN === 'after') fail();
      return answer as never;
    },
  };
}

const { settings } = parseSettings(env);
const logger = createLogger({ level: settings.logLevel });
const opened = await openDatabase(settings, logger);
const purser = await compose({
  settings,
  logger,
  database: { ...opened, db: failing(opened.db) },
});
const server = await listen(purser.app, {
  host: settings.http.host,
  port: settings.http.port,
  lifecycle: purser.lifecycle,
  logger,
  closers: [{ name: 'background work', close: purser.stop }],
});
await purser.start(server.url);
process.once('SIGTERM', () => void server.drain().then(() => process.exit(0)));
process.stdout.write(`Purser is listening on ${server.url}\n`);
