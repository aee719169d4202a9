import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { billingCommands } from './billing.ts';
import { type Command, type Output, UsageError } from './command.ts';
import { connect } from './connect.ts';
import { moneyCommands } from './money.ts';
import { serve, serveHelp, serveOptions } from './serve.ts';
import { thingCommands } from './things.ts';
import { timeCommands } from './time.ts';
import { webhookCommands } from './webhooks.ts';

const DEFAULT_DATA_DIR = '.purser/sandbox';

/** In the order of the help. */
const COMMANDS: Readonly<Record<string, Command>> = {
  ...thingCommands,
  ...moneyCommands,
  ...billingCommands,
  ...timeCommands,
  ...webhookCommands,
};

const common = {
  'data-dir': { type: 'string', default: DEFAULT_DATA_DIR },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

const COMMON_HELP = `  --data-dir <path>        default ${DEFAULT_DATA_DIR}; keeps state and keys between starts
  --json                   answer as JSON
  --help`;

function generalHelp(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const lines = Object.entries(COMMANDS).map(
    ([name, { about }]) => `  ${name.padEnd(width)}  ${about}`,
  );
  return `Usage: npm run sandbox -- [command] [options]

A stand-in for Stripe on this machine: API, hosted checkout, signed webhooks, a clock of its own.
No account, no money.

Without a command it serves:
${serveHelp}

Commands for a sandbox that is running (also one that Purser started):
${lines.join('\n')}
\`<command> --help\` tells more.

Always:
${COMMON_HELP}
`;
}

function helpOf(name: string, { usage, about, help }: Command): string {
  return `Usage: npm run sandbox -- ${`${name} ${usage}`.trim()}

${about}
${help === undefined ? '' : `\n${help}\n`}
Always:
${COMMON_HELP}
`;
}

/** Carries out one command line and gives its exit code; when it serves, once that has ended. */
export async function runCommandLine(args: readonly string[], output: Output): Promise<number> {
  try {
    await runArgs(args, output);
    return 0;
  } catch (error) {
    const json = args.includes('--json');
    const message = told(error);
    output.err(`${json ? JSON.stringify({ error: { message } }) : message}\n`);
    return 1;
  }
}

async function runArgs(args: readonly string[], output: Output): Promise<void> {
  const [first = 'serve', ...rest] = args;
  if (first === 'serve' || first.startsWith('-')) {
    return startServing(first === 'serve' ? rest : [first, ...rest], output);
  }
  const chosen = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  if (!chosen) {
    throw new UsageError(
      `There is no command ${first}. Commands: serve, ${Object.keys(COMMANDS).join(', ')}.`,
    );
  }
  const { values, positionals } = parseArgs({
    args: rest,
    options: { ...chosen.options, ...common },
    allowPositionals: true,
  });
  if (values.help) {
    output.out(helpOf(first, chosen));
    return;
  }
  const sandbox = await connect(resolve(String(values['data-dir'])));
  const answer = await chosen.run(sandbox, positionals, values as never);
  const text = values.json ? JSON.stringify(answer, null, 2) : chosen.show(answer as never);
  output.out(`${text}\n`);
}

async function startServing(args: string[], output: Output): Promise<void> {
  const { values } = parseArgs({ args, options: { ...serveOptions, ...common } });
  if (values.help) {
    output.out(generalHelp());
    return;
  }
  await serve(resolve(values['data-dir']), values, output);
}

function told(error: unknown): string {
  const { code, message, name } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') {
    return 'The port is taken by another program: choose one with --port.';
  }
  const typed = name === 'UsageError' || code?.startsWith('ERR_PARSE_ARGS');
  return `${message}${typed ? ' (--help tells more.)' : ''}`;
}
