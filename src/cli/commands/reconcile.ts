import type { ReconciliationAnswer } from '../../reconcile/reconcile.types.ts';
import { createClient } from '../client.ts';
import type { AddCommand } from '../command.ts';
import { instant } from '../options.ts';
import { pause } from '../progress.ts';
import { count } from '../table.ts';
import { EXIT, printJson, type Terminal } from '../terminal.ts';
import { differencesText, needsPerson } from './differences.ts';

interface Options {
  since?: string;
  dryRun?: true;
  json?: true;
}

/** One call works for 20 s; the job goes on with what is left in any case. */
const CALLS_MAX = 500;
const BUSY_MS = 2_000;
const SHOWN_MAX = 50;

export const addReconcile: AddCommand = (program, run) => {
  program
    .command('reconcile')
    .description('Compare Stripe with the ledger and Redis, and repair what can be repaired')
    .option('--since <when>', 'compare what Stripe made since: 2026-11-21, or 6h, 30d', instant)
    .option('--dry-run', 'only tell what differs')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, options: Options) => {
        const total = await compare(terminal, options);
        if (options.json) printJson(terminal, total);
        else show(terminal, total);
        const left = total.differences.some(needsPerson) || total.still_open > 0;
        if (terminal.signal.aborted) return EXIT.canceled;
        const unrepaired = total.dry_run && total.differences.length > 0;
        return left || unrepaired || total.outcome !== 'done' ? EXIT.findings : EXIT.ok;
      }),
    );
};

/** Goes on with a run until it is done, Ctrl-C comes, or another process has it. */
async function compare(
  terminal: Terminal,
  { since, dryRun, json }: Options,
): Promise<ReconciliationAnswer> {
  const client = createClient({ env: terminal.env, signal: new AbortController().signal });
  const path = '/api/admin/stripe/reconcile';
  let answer = await client.post<ReconciliationAnswer>(path, { since, dry_run: dryRun === true });
  const differences = [...answer.differences];
  for (let call = 1; call < CALLS_MAX && !dryRun && !terminal.signal.aborted; call += 1) {
    if (answer.outcome !== 'paused' && answer.outcome !== 'busy') break;
    if (!json) terminal.err(progressText(answer));
    if (answer.outcome === 'busy') await pause(BUSY_MS, terminal.signal);
    if (terminal.signal.aborted) break;
    answer = await client.post<ReconciliationAnswer>(path, {});
    differences.push(...answer.differences);
  }
  return { ...answer, differences };
}

function progressText({
  outcome,
  progress,
  objects,
  stripe_calls: calls,
}: ReconciliationAnswer): string {
  if (outcome === 'busy') return 'Another process is reconciling; waiting for it.';
  const stages = Object.entries(progress?.stages ?? {})
    .map(([name, stage]) => `${name} ${stage.objects}${stage.done ? '' : ' …'}`)
    .join(', ');
  return `${count(objects, 'object')} in ${count(calls, 'call')} to Stripe so far (${stages})`;
}

function show(terminal: Terminal, answer: ReconciliationAnswer): void {
  const { out, colours } = terminal;
  const {
    differences,
    outcome,
    objects,
    stripe_calls: calls,
    repaired,
    dry_run: dryRun,
    still_open: open,
  } = answer;
  if (outcome === 'nothing_to_resume') {
    out('Nothing was to be done.');
    return;
  }
  if (outcome === 'busy') {
    out('Another process is reconciling; look again when it has ended.');
    return;
  }
  out(`Compared ${count(objects, 'object')} in ${count(calls, 'call')} to Stripe.`);
  if (differences.length > 0) {
    out(`\n${differencesText(terminal, differences.slice(0, SHOWN_MAX))}`);
    if (differences.length > SHOWN_MAX) out(`and ${differences.length - SHOWN_MAX} more`);
    out('');
  }
  const left = differences.filter(needsPerson).length;
  if (differences.length === 0 && open === 0) out(colours.green('Everything agrees.'));
  else if (dryRun) out(`${count(differences.length, 'difference')}; nothing was changed.`);
  else
    out(
      `Repaired ${repaired}; ${left + open === 0 ? 'nothing is' : `${count(Math.max(left, open), 'difference')} ${Math.max(left, open) === 1 ? 'is' : 'are'}`} left for you.`,
    );
  if (outcome === 'paused') {
    const why = answer.paused_because === null ? '' : ` (${answer.paused_because})`;
    out(
      dryRun
        ? `It ended early${why}: narrow it with --since.`
        : `It is paused${why}; the job goes on with it.`,
    );
  }
}
