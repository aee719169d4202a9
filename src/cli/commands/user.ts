import type { Command } from 'commander';
import type { FoundUser, UserView } from '../../admin/admin.types.ts';
import { shellWord } from '../../core/shellWord.ts';
import type { TransactionPage } from '../../credits/credits.types.ts';
import type { Explanation } from '../../credits/explain.types.ts';
import { createClient } from '../client.ts';
import type { AddCommand, Run } from '../command.ts';
import { instant, wholeNumber } from '../options.ts';
import { details, shortTime, table } from '../table.ts';
import { EXIT, printJson, type Terminal } from '../terminal.ts';
import { signed } from './events.ts';
import { addCheck, addFix } from './userRepair.ts';

interface Json {
  json?: true;
}

export const pathOf = (userId: string) => `/api/admin/users/${encodeURIComponent(userId)}`;

export const addUser: AddCommand = (program, run) => {
  const user = program.command('user').description('What a user has, and why');
  addFind(user, run);
  addBalance(user, run);
  addLots(user, run);
  addHistory(user, run);
  addExplain(user, run);
  addCheck(user, run);
  addFix(user, run);
};

function addFind(user: Command, run: Run): void {
  user
    .command('find [text]')
    .description('Users by the beginning of an id or e-mail, or by a Stripe customer')
    .option('-n, --limit <number>', 'how many, 1 to 100', wholeNumber(1, 100), 20)
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, q: string | undefined, { limit, json }: Json & { limit: number }) => {
        const page = await createClient(terminal).get<{ data: FoundUser[]; has_more: boolean }>(
          '/api/admin/users',
          { q, limit },
        );
        if (json) printJson(terminal, page);
        else if (page.data.length === 0) terminal.out('No user fits.');
        else {
          terminal.out(
            table(
              terminal,
              [
                { head: 'user', width: 10, whole: true },
                { head: 'e-mail' },
                { head: 'plan', width: 10 },
                { head: 'credits', width: 9, right: true },
              ],
              page.data.map((one) => ({
                cells: [one.user_id, one.email ?? '', one.plan, String(one.balance)],
              })),
            ),
          );
          if (page.has_more)
            terminal.err(
              terminal.colours.dim('\nThere are more: narrow it down, or raise --limit.'),
            );
        }
        return EXIT.ok;
      }),
    );
}

function addBalance(user: Command, run: Run): void {
  user
    .command('balance <user-id>')
    .description('Ledger and Redis beside each other, plan, open findings')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, userId: string, { json }: Json) => {
        const view = await createClient(terminal).get<UserView>(pathOf(userId));
        if (json) printJson(terminal, view);
        else showBalance(terminal, view);
        return view.open_findings.length > 0 ? EXIT.findings : EXIT.ok;
      }),
    );
}

function showBalance(terminal: Terminal, view: UserView): void {
  const { profile, ledger, mirror, subscriptions, holds, open_findings: findings } = view;
  const { out, colours } = terminal;
  const flags = [profile.suspended ? 'suspended' : '', profile.closed ? 'closed' : ''].filter(
    (one) => one !== '',
  );
  out(
    details(terminal, [
      ['user', profile.user_id],
      ['e-mail', profile.email],
      ['plan', flags.length === 0 ? profile.plan : `${profile.plan} (${flags.join(', ')})`],
      ['customers', profile.customers.join(', ')],
    ]),
  );
  out('');
  const number = (value: number | null) => (value === null ? '-' : String(value));
  out(
    table(
      terminal,
      [
        { head: '', width: 8 },
        { head: 'balance', width: 10, right: true },
        { head: 'held', width: 8, right: true },
        { head: 'available', width: 10, right: true },
        { head: 'debt', width: 6, right: true },
        { head: 'version', width: 8, right: true },
        { head: '' },
      ],
      [
        {
          cells: [
            'ledger',
            number(ledger.balance),
            number(ledger.held),
            number(ledger.available),
            number(ledger.debt),
            number(ledger.version),
            ledger.due ? 'some of it has ended' : '',
          ],
        },
        {
          cells: [
            'Redis',
            number(mirror.balance),
            '',
            number(mirror.available),
            '',
            number(mirror.version),
            mirror.state,
          ],
        },
      ],
    ),
  );
  for (const one of subscriptions) {
    const end =
      one.current_period_end === null ? '' : `, period ends ${one.current_period_end.slice(0, 10)}`;
    out(
      `\n${colours.bold('Subscription')} ${one.stripe_subscription_id}: ${one.plan ?? 'unknown plan'}, ${one.status}${end}${one.cancel_at_period_end ? ', will not renew' : ''}`,
    );
  }
  if (holds.length > 0)
    out(
      `\n${colours.bold('Open holds')}: ${holds.map((hold) => `${hold.hold_id} (${hold.remaining})`).join(', ')}`,
    );
  if (view.waiting_events.length > 0) {
    out(
      `\n${colours.yellow('Events wait for this user')}: ${view.waiting_events.map((event) => event.event_id).join(', ')}`,
    );
  }
  for (const finding of findings) {
    out(
      `\n${colours.red('Finding')} ${finding.code} (${finding.subject}), since ${shortTime(finding.first_seen_at)}`,
    );
  }
  if (findings.length > 0)
    terminal.err(colours.dim(`\nTo look into it: purser user check ${shellWord(profile.user_id)}`));
}

function addLots(user: Command, run: Run): void {
  user
    .command('lots <user-id>')
    .description('Open lots in the order they are spent')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, userId: string, { json }: Json) => {
        const { lots } = await createClient(terminal).get<UserView>(pathOf(userId));
        if (json) printJson(terminal, lots);
        else if (lots.length === 0) terminal.out('There are no credits left.');
        else {
          terminal.out(
            table(
              terminal,
              [
                { head: 'lot', width: 8, whole: true },
                { head: 'left', width: 8, right: true },
                { head: 'of', width: 8, right: true },
                { head: 'kind', width: 5 },
                { head: 'prio', width: 5, right: true },
                { head: 'expires', width: 12 },
                { head: 'from' },
              ],
              lots.map((lot) => ({
                cells: [
                  lot.grant_id,
                  String(lot.remaining),
                  String(lot.amount),
                  lot.paid ? 'paid' : 'free',
                  String(lot.priority),
                  lot.expires_at === null ? 'never' : shortTime(lot.expires_at),
                  lot.catalogue_id ?? '',
                ],
              })),
            ),
          );
        }
        return EXIT.ok;
      }),
    );
}

interface HistoryOptions extends Json {
  type?: string;
  from?: string;
  to?: string;
  limit: number;
  cursor?: string;
}

function addHistory(user: Command, run: Run): void {
  user
    .command('history <user-id>')
    .description('Entries, newest first')
    .option('-t, --type <type>', 'purchase, allocation, bonus, usage, usage_refund, clawback, ...')
    .option('--from <when>', 'written at or after: 2026-11-21, or 6h, 2d', instant)
    .option('--to <when>', 'written before', instant)
    .option('-n, --limit <number>', 'how many, 1 to 100', wholeNumber(1, 100), 20)
    .option('--cursor <cursor>', 'the page after; it is printed below a page')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, userId: string, { json, ...query }: HistoryOptions) => {
        const page = await createClient(terminal).get<TransactionPage>(
          `${pathOf(userId)}/transactions`,
          query,
        );
        if (json) printJson(terminal, page);
        else if (page.data.length === 0) terminal.out('There are no entries.');
        else {
          terminal.out(
            table(
              terminal,
              [
                { head: 'written', width: 12 },
                { head: 'type', width: 17 },
                { head: 'credits', width: 8, right: true },
                { head: 'balance', width: 8, right: true },
                { head: 'why' },
              ],
              page.data.map((entry) => ({
                cells: [
                  shortTime(entry.created_at),
                  entry.transaction_type,
                  signed(entry.amount),
                  String(entry.balance_after),
                  entry.description ?? entry.idempotency_key,
                ],
              })),
            ),
          );
          if (page.next_cursor !== null)
            terminal.err(terminal.colours.dim(`\nMore: --cursor ${page.next_cursor}`));
        }
        return EXIT.ok;
      }),
    );
}

function addExplain(user: Command, run: Run): void {
  user
    .command('explain <user-id>')
    .description('How the balance came about, in sentences')
    .option('--at <when>', 'as the book stood then: 2026-11-21, or 6h, 2d', instant)
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, userId: string, { at, json }: Json & { at?: string }) => {
        const told = await createClient(terminal).get<Explanation>(`${pathOf(userId)}/explain`, {
          at,
        });
        if (json) {
          printJson(terminal, told);
          return EXIT.ok;
        }
        for (const sentence of told.sentences) {
          terminal.out(table(terminal, [{ head: '' }], [{ cells: [sentence] }]));
        }
        if (told.truncated)
          terminal.err(
            terminal.colours.dim(
              '\nOnly the newest entries; `purser user history` pages through all.',
            ),
          );
        return EXIT.ok;
      }),
    );
}
