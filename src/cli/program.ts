import { Command, CommanderError } from 'commander';
import { SettingsError } from '../config/settingsError.ts';
import { PurserError } from '../core/errors.ts';
import type { Run } from './command.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addEvents } from './commands/events.ts';
import { addMigrate } from './commands/migrate.ts';
import { addReconcile } from './commands/reconcile.ts';
import { addReplay } from './commands/replay.ts';
import { addUser } from './commands/user.ts';
import { CliError, cleaned, EXIT, type Terminal } from './terminal.ts';

const HELP = `
Commands that talk to a server find it at PURSER_URL (default: this machine,
port 3000) and send PURSER_ADMIN_KEY (default: the key that \`npm start\` keeps
in PURSER_DATA_DIR). They end with 0 (all is well), 1 (something was found),
2 (it could not run) or 130 (canceled).`;

/** Runs one command line; resolves with the exit code. Never rejects for what a user did wrong. */
export async function runCli(args: readonly string[], raw: Terminal): Promise<number> {
  const terminal = cleaned(raw);
  let code: number = EXIT.ok;
  const run: Run =
    (work) =>
    async (...given) => {
      code = await work(terminal, ...given);
    };
  const program = new Command('purser')
    .description('Looks after a Purser installation: what is wrong, what came in, who has what.')
    .usage('<command> [options]')
    .addHelpText('after', HELP)
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ helpWidth: terminal.width })
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.err(text.trimEnd()),
    });
  for (const add of [addDoctor, addMigrate, addEvents, addReplay, addReconcile, addUser, addDemo]) {
    add(program, run);
  }
  try {
    if (args.length === 0) {
      program.outputHelp();
      return EXIT.cannotRun;
    }
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    return told(error, terminal);
  }
}

function told(error: unknown, { err, colours }: Terminal): number {
  if (error instanceof CommanderError) {
    // It has printed its own message already; help and version are no errors.
    return error.exitCode === 0 ? EXIT.ok : EXIT.cannotRun;
  }
  if (error instanceof CliError) {
    err(
      error.exitCode === EXIT.canceled
        ? error.message
        : `${colours.red('Error:')} ${error.message}`,
    );
    return error.exitCode;
  }
  if (error instanceof SettingsError || error instanceof PurserError) {
    err(error.message);
    return EXIT.cannotRun;
  }
  throw error;
}
