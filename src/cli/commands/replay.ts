import type { EventDetail } from '../../webhook/eventLog.types.ts';
import type { MissedEventsRun } from '../../webhook/missedEvents.ts';
import type { Replay } from '../../webhook/replays.ts';
import type { RetryAnswer } from '../../webhook/webhook.types.ts';
import { type Client, createClient } from '../client.ts';
import type { AddCommand } from '../command.ts';
import { instant } from '../options.ts';
import { askToGoOn, pause, startProgress } from '../progress.ts';
import { count, table } from '../table.ts';
import { CliError, EXIT, printJson, type Terminal } from '../terminal.ts';
import { signed, statusText } from './events.ts';

interface Options {
  status?: string;
  type?: string;
  since?: string;
  all?: true;
  missed?: true;
  dryRun?: true;
  yes?: true;
  json?: true;
}

const LOOK_MS = 500;
/** How long the end of single events is waited for. */
const WAIT_MS = 30_000;
/** More are told of in numbers only. */
const WATCHED_MAX = 10;
/** One call looks for 20 s; a month of a busy account takes many. */
const MISSED_CALLS_MAX = 500;
const UNDER_WAY = new Set(['received', 'leased']);
const BAD_ENDS = new Set(['failed', 'dead']);

export const addReplay: AddCommand = (program, run) => {
  program
    .command('replay [event-ids...]')
    .description('Work on events again; what was credited already is not credited twice')
    .option('-s, --status <status>', 'failed, parked, dead, ignored, processed or logged')
    .option('-t, --type <type>', 'only this type')
    .option('--since <when>', 'only events received since: 2026-11-21, or 6h, 2d', instant)
    .option('--all', 'everything failed, parked or dead')
    .option('--missed', 'fetch from Stripe what was never delivered (with --since: from then on)')
    .option('--dry-run', 'only tell what would be done')
    .option('-y, --yes', 'do not ask')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, eventIds: string[], options: Options) => {
        const { status, type, since, all, missed } = options;
        if (missed) return replayMissed(terminal, eventIds, options);
        if (eventIds.length === 0 && [status, type, since, all].every((one) => one === undefined)) {
          throw new CliError(
            'Say which events: their ids, a filter (--status, --type, --since), or --all for everything failed, parked or dead.',
          );
        }
        return replay(terminal, eventIds, options);
      }),
    );
};

async function replay(terminal: Terminal, eventIds: string[], options: Options): Promise<number> {
  const client = createClient(terminal);
  const { status, type, since, dryRun, json, yes } = options;
  const filter = { ...(eventIds.length > 0 ? { event_ids: eventIds } : { status }), type, since };
  const path = '/api/admin/stripe/retry-webhooks';
  const found = await client.post<RetryAnswer>(path, { ...filter, dry_run: true });
  if (found.matched === 0) {
    if (json) printJson(terminal, found);
    else
      terminal.out(
        `No event fits. ${eventIds.length > 0 ? 'Is it worked on already? ' : ''}\`purser events\` lists them.`,
      );
    return eventIds.length > 0 ? EXIT.findings : EXIT.ok;
  }
  if (dryRun) {
    if (json) printJson(terminal, found);
    else {
      terminal.out(`Would work again on ${count(found.matched, 'event')}:`);
      for (const id of found.event_ids.slice(0, 20)) terminal.out(`  ${id}`);
      if (found.matched > 20) terminal.out(`  and ${found.matched - 20} more`);
    }
    return EXIT.ok;
  }
  if (found.matched > 1 && eventIds.length === 0) {
    await askToGoOn(terminal, `Work again on ${count(found.matched, 'event')}?`, yes);
  }
  const begun = await client.post<RetryAnswer>(path, filter);
  if (begun.replay_id !== null && (await follow(terminal, begun.replay_id, json)) === 'canceled') {
    return EXIT.canceled;
  }
  const ends = await waitForEnds(terminal, client, begun.event_ids.slice(0, WATCHED_MAX));
  if (json) printJson(terminal, { ...begun, ends });
  else showEnds(terminal, begun, ends);
  return ends.some(({ status: end }) => BAD_ENDS.has(end)) ? EXIT.findings : EXIT.ok;
}

/** Shows how far a replay is. Ctrl-C cancels it at the server as well. */
async function follow(
  terminal: Terminal,
  replayId: string,
  quiet: boolean | undefined,
): Promise<'done' | 'canceled'> {
  const path = `/api/admin/stripe/replays/${replayId}`;
  // Ctrl-C ends what a client of `terminal` asks, and here something is still to be said.
  const client = createClient({ env: terminal.env, signal: new AbortController().signal });
  let state = await client.get<Replay>(path);
  const shown = quiet ? null : startProgress(terminal, state.matched, 'Putting events back');
  while (state.status === 'running') {
    await pause(LOOK_MS, terminal.signal);
    if (terminal.signal.aborted) {
      const ended = await client.post<Replay>(`${path}/cancel`);
      shown?.end(
        `Canceled: ${ended.requeued} of ${count(ended.matched, 'event')} are back in the inbox and are worked on, the rest stays as it was.`,
      );
      return 'canceled';
    }
    state = await client.get<Replay>(path);
    shown?.to(
      state.requeued,
      `${state.requeued} of ${count(state.matched, 'event')} are back in the inbox`,
    );
  }
  shown?.end(
    `${state.requeued} of ${count(state.matched, 'event')} went back to the inbox (${state.status}).`,
  );
  return state.status === 'canceled' ? 'canceled' : 'done';
}

/** The events as they ended, or as they are when the wait is over. */
async function waitForEnds(
  terminal: Terminal,
  client: Client,
  eventIds: readonly string[],
): Promise<EventDetail[]> {
  const look = (id: string) => client.get<EventDetail>(`/api/admin/stripe/webhook-logs/${id}`);
  const until = Date.now() + WAIT_MS;
  let events = await Promise.all(eventIds.map(look));
  while (events.some(({ status }) => UNDER_WAY.has(status)) && Date.now() < until) {
    await pause(LOOK_MS, terminal.signal);
    if (terminal.signal.aborted) break;
    events = await Promise.all(
      events.map((event) => (UNDER_WAY.has(event.status) ? look(event.event_id) : event)),
    );
  }
  return events;
}

function showEnds(terminal: Terminal, begun: RetryAnswer, ends: readonly EventDetail[]): void {
  terminal.out(
    table(
      terminal,
      [
        { head: 'status', width: 9 },
        { head: 'event', width: 28, whole: true },
        { head: 'what came of it' },
      ],
      ends.map((event) => ({
        cells: [statusText(terminal, event.status), event.event_id, whatCame(event)],
      })),
    ),
  );
  const rest = begun.matched - ends.length;
  if (rest > 0) terminal.out(`\nand ${count(rest, 'more event')}; see \`purser events\`.`);
}

function whatCame({ entries, error, reason, status, event_type: type }: EventDetail): string {
  if (error !== null && BAD_ENDS.has(status)) return error;
  if (entries.length > 0) {
    return entries
      .map((entry) => `${signed(entry.amount)} for ${entry.user_id} (${entry.transaction_type})`)
      .join('; ');
  }
  return reason ?? (UNDER_WAY.has(status) ? 'still under way' : type);
}

async function replayMissed(
  terminal: Terminal,
  eventIds: string[],
  options: Options,
): Promise<number> {
  const { dryRun = false, json, status, type } = options;
  if (eventIds.length > 0 || status !== undefined || type !== undefined) {
    throw new CliError(
      '--missed takes --since and --dry-run only: Stripe’s list is compared as a whole.',
    );
  }
  const client = createClient(terminal);
  const total = {
    listed: 0,
    received: 0,
    duplicates: 0,
    event_ids: [] as string[],
    complete: false,
  };
  let since = options.since;
  for (let call = 0; call < MISSED_CALLS_MAX && !terminal.signal.aborted; call += 1) {
    const answer = await client.post<MissedEventsRun & { dry_run: boolean }>(
      '/api/admin/stripe/replay-missed-events',
      {
        since,
        dry_run: dryRun,
      },
    );
    total.listed += answer.listed;
    total.received += answer.received;
    total.duplicates += answer.duplicates;
    total.event_ids.push(...answer.event_ids);
    total.complete = answer.complete;
    if (answer.complete || answer.next_since === null) break;
    since = answer.next_since;
    if (!json)
      terminal.err(
        `Compared up to ${since}: ${count(total.listed, 'event')}, ${total.received} missing so far.`,
      );
  }
  if (json) printJson(terminal, { ...total, dry_run: dryRun });
  else {
    const verb = dryRun
      ? 'would be fetched'
      : total.received === 1
        ? 'was fetched'
        : 'were fetched';
    terminal.out(
      `Stripe lists ${count(total.listed, 'event')}; ${total.received === 0 ? 'none is missing here' : `${total.received} missing here ${verb}`}.${total.complete ? '' : ' It ended early: run it again to go on.'}`,
    );
    for (const id of total.event_ids.slice(0, 20)) terminal.out(`  ${id}`);
  }
  return total.complete ? EXIT.ok : EXIT.findings;
}
