import { confirm, isCancel, progress } from '@clack/prompts';
import { CliError, EXIT, type Terminal } from './terminal.ts';

/** Shows how far something is: a bar for a person, a line now and then for a log. */
export interface Progress {
  to(done: number, message: string): void;
  end(message: string): void;
}

/** A log gets a line for each tenth at most. */
const LOG_STEPS = 10;

export function startProgress(terminal: Terminal, total: number, message: string): Progress {
  if (!terminal.interactive) return logged(terminal, total);
  let shown = 0;
  const bar = progress({
    max: Math.max(total, 1),
    style: 'block',
    output: process.stderr,
    size: 30,
  });
  bar.start(message);
  return {
    to(done, text) {
      bar.advance(Math.max(done - shown, 0), text);
      shown = Math.max(done, shown);
    },
    end: (text) => bar.stop(text),
  };
}

function logged(terminal: Terminal, total: number): Progress {
  let told = 0;
  return {
    to(done, text) {
      const step = total === 0 ? 0 : Math.floor((done / total) * LOG_STEPS);
      if (step <= told) return;
      told = step;
      terminal.err(`${text}`);
    },
    end: (text) => terminal.err(text),
  };
}

/** Asks a person; where nobody can be asked, `--yes` has to be given. Errors: `CliError`. */
export async function askToGoOn(
  terminal: Terminal,
  question: string,
  yes: boolean | undefined,
): Promise<void> {
  if (yes) return;
  if (!terminal.interactive) {
    throw new CliError(
      `${question} Nobody can be asked here: add --yes to go on, or --dry-run to look.`,
    );
  }
  const answer = await confirm({ message: question, initialValue: false, output: process.stderr });
  if (isCancel(answer) || !answer) throw new CliError('Nothing was done.', EXIT.canceled);
}

/** Waits; ends early, without an error, by Ctrl-C. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      signal.removeEventListener('abort', done);
      clearTimeout(timer);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
}
