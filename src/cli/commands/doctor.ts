import type { AddCommand } from '../command.ts';
import { type Examined, examine } from '../doctor/examine.ts';
import { STATUSES, type Status } from '../doctor/rule.ts';
import { RULES } from '../doctor/rules/index.ts';
import { openSite } from '../doctor/site.ts';
import { count, table } from '../table.ts';
import { EXIT, printJson, type Terminal } from '../terminal.ts';

interface Options {
  json?: true;
}

export const addDoctor: AddCommand = (program, run) => {
  program
    .command('doctor')
    .description('Look for what is commonly set up wrongly, with the fix for each; changes nothing')
    .option('--json', 'answer for programs')
    .addHelpText(
      'after',
      `
Reads the settings of this shell and of .env, and asks the database, Redis,
Stripe and the webhook route at PUBLIC_URL. Needs no server; what it cannot
look at is skipped, with the reason.`,
    )
    .action(
      run(async (terminal, options: Options) => {
        const site = openSite({ env: terminal.env });
        const examined: Examined[] = [];
        try {
          for (const rule of RULES) {
            if (terminal.signal.aborted) return EXIT.canceled;
            const one = await examine(site, rule);
            examined.push(one);
            if (!options.json) terminal.out(shown(terminal, one));
          }
        } finally {
          await site.close();
        }
        const totals = totalsOf(examined);
        if (options.json) printJson(terminal, { ...totals, rules: examined });
        else terminal.out(`\n${summary(terminal, totals)}`);
        return totals.fail > 0 ? EXIT.findings : EXIT.ok;
      }),
    );
};

/** A rule as it is looked at, so that a slow one keeps nobody waiting for the others. */
function shown(terminal: Terminal, { code, title, status, findings }: Examined): string {
  const { colours } = terminal;
  const arrow = colours.cyan('→');
  const lines = findings.flatMap(({ status: own, detail, fix }) => {
    const text = own === 'ok' || own === 'skipped' ? colours.dim(detail) : detail;
    return fix === undefined ? [text] : [text, `${arrow} ${fix}`];
  });
  return table(
    terminal,
    [{ head: '', width: 7 }, { head: '', width: 16 }, { head: '' }],
    [
      { cells: [coloured(terminal, status), code, colours.bold(title)] },
      ...lines.map((line) => ({ cells: ['', '', line] })),
    ],
  );
}

function coloured({ colours }: Terminal, status: Status): string {
  const paint = {
    ok: colours.green,
    warn: colours.yellow,
    fail: colours.red,
    skipped: colours.dim,
  };
  return paint[status](status);
}

function totalsOf(examined: readonly Examined[]): Record<Status, number> {
  const totals = Object.fromEntries(STATUSES.map((status) => [status, 0])) as Record<
    Status,
    number
  >;
  for (const { status } of examined) totals[status] += 1;
  return totals;
}

function summary({ colours }: Terminal, totals: Record<Status, number>): string {
  const { ok, warn, fail, skipped } = totals;
  const parts = [
    `${ok} ok`,
    warn > 0 ? colours.yellow(count(warn, 'warning')) : '',
    fail > 0 ? colours.red(`${fail} failed`) : '',
    skipped > 0 ? `${skipped} skipped` : '',
  ];
  return parts.filter((part) => part !== '').join(', ');
}
