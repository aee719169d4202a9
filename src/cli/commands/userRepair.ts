import type { Command } from 'commander';
import { shellWord } from '../../core/shellWord.ts';
import type { UserCheck, UserFix } from '../../reconcile/reconcile.types.ts';
import { createClient } from '../client.ts';
import type { Run } from '../command.ts';
import { askToGoOn } from '../progress.ts';
import { count, details } from '../table.ts';
import { CliError, EXIT, printJson } from '../terminal.ts';
import { differencesText, needsPerson } from './differences.ts';

const repairPath = (verb: 'check' | 'fix', userId: string) =>
  `/api/admin/stripe/${verb}-user/${encodeURIComponent(userId)}`;

export function addCheck(user: Command, run: Run): void {
  user
    .command('check <user-id>')
    .description('Compare with what Stripe says; changes nothing')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, userId: string, { json }: { json?: true }) => {
        const check = await createClient(terminal).get<UserCheck>(repairPath('check', userId));
        if (json) printJson(terminal, check);
        else {
          const { stripe, ledger, differences, mirror, mirror_agrees: agrees } = check;
          const seen = [
            count(stripe.sessions, 'session'),
            count(stripe.invoices, 'invoice'),
            count(stripe.subscriptions, 'subscription'),
          ];
          terminal.out(
            details(terminal, [
              ['Stripe', `${seen.join(', ')} (${stripe.customers.join(', ') || 'no customer'})`],
              [
                'ledger',
                `balance ${ledger.balance}, ${count(ledger.entries, 'entry', 'entries')}, plan ${ledger.plan}`,
              ],
              [
                'Redis',
                agrees
                  ? 'agrees'
                  : mirror === null
                    ? 'has no copy; the next read writes it'
                    : 'differs',
              ],
            ]),
          );
          terminal.out('');
          if (differences.length === 0) terminal.out(terminal.colours.green('Everything agrees.'));
          else {
            terminal.out(differencesText(terminal, differences));
            terminal.err(
              terminal.colours.dim(
                `\nTo see what a repair would do: purser user fix ${shellWord(userId)} --reason "..." --dry-run`,
              ),
            );
          }
        }
        return check.clean ? EXIT.ok : EXIT.findings;
      }),
    );
}

interface FixOptions {
  reason?: string;
  subscription?: string;
  dryRun?: true;
  yes?: true;
  json?: true;
}

export function addFix(user: Command, run: Run): void {
  user
    .command('fix <user-id>')
    .description('Repair what differs from Stripe: shows what it would do, asks, does it')
    .option('--reason <text>', 'why; it is kept in the audit log')
    .option('--subscription <id>', 'a subscription (sub_...) that is this user’s')
    .option('--dry-run', 'only show what it would do')
    .option('-y, --yes', 'do not ask')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, userId: string, options: FixOptions) => {
        const { reason, subscription, dryRun, yes, json } = options;
        if (reason === undefined) {
          throw new CliError('Say why with --reason "..."; it is kept in the audit log.');
        }
        const client = createClient(terminal);
        const path = repairPath('fix', userId);
        const body = { reason, stripe_subscription_id: subscription };
        const preview = await client.post<UserFix>(path, { ...body, dry_run: true });
        if (!json || dryRun) {
          if (json) printJson(terminal, preview);
          else if (preview.differences.length === 0) {
            terminal.out(terminal.colours.green('Everything agrees; there is nothing to repair.'));
          } else {
            terminal.out(differencesText(terminal, preview.differences));
            const { before, after } = preview;
            terminal.out(
              after.balance === before.balance
                ? `\nBalance: ${before.balance}, before and after.`
                : `\nBalance: ${before.balance} now, ${after.balance} after the repair.`,
            );
          }
        }
        const left = preview.differences.filter(needsPerson);
        if (dryRun || preview.differences.length === left.length) {
          if (json && !dryRun) printJson(terminal, preview);
          return left.length > 0 ? EXIT.findings : EXIT.ok;
        }
        await askToGoOn(terminal, 'Do this?', yes);
        const fixed = await client.post<UserFix>(path, body);
        if (json) printJson(terminal, fixed);
        else {
          terminal.out(
            `Repaired ${count(fixed.repaired, 'difference')}; the balance is ${fixed.after.balance}.`,
          );
        }
        return fixed.differences.some(needsPerson) ? EXIT.findings : EXIT.ok;
      }),
    );
}
