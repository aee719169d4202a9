import { listen, stopOnSignals } from './api/server.ts';
import { openDatabase } from './compose/openDatabase.ts';
import { type LoadedSettings, loadSettings, SettingsError } from './config.ts';
import { PurserError } from './core/errors.ts';
import { createLogger } from './observability/logger.ts';

/** The long-running server: compose, listen, stop on signals. */
async function main(): Promise<void> {
  const loaded = loadSettings();
  const { settings } = loaded;
  const logger = createLogger({
    level: settings.logLevel,
    pretty: !settings.production && process.stdout.isTTY,
  });
  for (const warning of loaded.warnings) logger.warn(warning);

  // Until everything is up a signal ends the process at once; embedded parts leave as it exits.
  let stop = async (): Promise<void> => {};
  stopOnSignals(() => stop(), logger);
  // A first start spends a second in initdb, a process of its own: the rest of Purser is read
  // meanwhile, and by compose the sandbox is opened.
  const database = openDatabase(settings, logger);
  database.catch(() => {
    // Awaited by compose, which may not be there yet.
  });
  const { compose } = await import('./compose.ts');
  const purser = await compose({ settings, logger, database });
  stop = purser.stop;
  const server = await listen(purser.app, {
    host: settings.http.host,
    port: settings.http.port,
    lifecycle: purser.lifecycle,
    logger,
    closers: [{ name: 'background work', close: purser.stop }],
  }).catch(async (error: unknown) => {
    await purser.stop();
    throw error;
  });
  stop = server.drain;
  await purser.start(server.url);
  report(loaded, purser.parts, server.url);
}

/** What was chosen, for the person at the terminal; the last line says that it is ready. */
function report({ settings, keysFile }: LoadedSettings, parts: [string, string][], url: string) {
  const lines: [string, string][] = [
    ['mode', settings.mode],
    ...parts,
    ...(keysFile === null ? [] : [['keys', keysFile] as [string, string]]),
    ['pages', `${settings.http.publicUrl ?? url}/pricing`],
  ];
  for (const [part, chosen] of lines) process.stdout.write(`  ${part.padEnd(10)}${chosen}\n`);
  process.stdout.write(`Purser is listening on ${url}\n`);
}

main().catch((error: unknown) => {
  // What is wrong with a setting or a part is told in its own words; a defect shows its stack.
  const known = error instanceof SettingsError || error instanceof PurserError;
  const text = known || !(error instanceof Error) ? error : (error.stack ?? error.message);
  process.stderr.write(
    `${known ? (error as Error).message : `Purser could not start.\n${text}`}\n`,
  );
  process.exit(1);
});
