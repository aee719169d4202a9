import type { AddCommand } from '../command.ts';
import { runMigrate } from '../migrate.ts';

/** The options are those of migrate.ts, which explains them itself. */
export const addMigrate: AddCommand = (program, run) => {
  program
    .command('migrate')
    .description('Bring the database to the schema of this version (--help tells the options)')
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[options...]')
    .action(
      run(async (terminal, args: string[]) => {
        // A migration is one transaction: ended in the middle it changes nothing, and is not
        // something to wait for.
        const stop = () => process.exit(130);
        terminal.signal.addEventListener('abort', stop);
        try {
          return await runMigrate({
            args,
            env: terminal.env,
            print: terminal.out,
            printError: terminal.err,
          });
        } finally {
          terminal.signal.removeEventListener('abort', stop);
        }
      }),
    );
};
