import { listen } from './api/server.ts';
import { compose } from './compose.ts';
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

  const purser = await compose({ settings, logger });
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
  await purser.start(server.url);
  report(loaded, purser.parts, server.url);

  let signals = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      signals += 1;
      // A second Ctrl-C is for people who do not want to wait for the drain.
      if (signals > 1) process.exit(1);
      logger.info(`${signal}: finishing what is under way`);
      void server.drain().then(() => process.exit(0));
    });
  }
}

/** What was chosen, for the person at the terminal; the last line says that it is ready. */
function report({ settings, keysFile }: LoadedSettings, parts: [string, string][], url: string) {
  const lines: [string, string][] = [
    ['mode', settings.mode],
    ...parts,
    ...(keysFile === null ? [] : [['keys', keysFile] as [string, string]]),
  ];
  for (const [part, chosen] of lines) process.stdout.write(`  ${part.padEnd(10)}${chosen}\n`);
  process.stdout.write(`Purser is listening on ${url}\n`);
}

main().catch((error: unknown) => {
  const known = error instanceof SettingsError || error instanceof PurserError;
  const text = known || !(error instanceof Error) ? String(error) : (error.stack ?? error.message);
  process.stderr.write(`Purser could not start.\n${text}\n`);
  process.exit(1);
});
