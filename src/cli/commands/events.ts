import { shellWord } from '../../core/shellWord.ts';
import type { EventDetail, EventPage, EventSummary } from '../../webhook/eventLog.types.ts';
import { createClient } from '../client.ts';
import type { AddCommand } from '../command.ts';
import { wholeNumber } from '../options.ts';
import { details, GAP, type Row, shortTime, table } from '../table.ts';
import { EXIT, printJson, type Terminal } from '../terminal.ts';

interface ListOptions {
  status?: string;
  type?: string;
  q?: string;
  limit: number;
  cursor?: string;
  json?: true;
}

const LIST_DEFAULT = 20;

export const addEvents: AddCommand = (program, run) => {
  const events = program.command('events').description('What Stripe sent, and what became of it');

  events
    .command('list', { isDefault: true })
    .description('Events, newest first')
    .option(
      '-s, --status <status>',
      'received, leased, failed, parked, processed, ignored, dead or logged',
    )
    .option('-t, --type <type>', 'such as checkout.session.completed')
    .option('-q, --q <text>', 'id of an event, object, user or customer; or a part of an error')
    .option('-n, --limit <number>', 'how many, 1 to 100', wholeNumber(1, 100), LIST_DEFAULT)
    .option('--cursor <cursor>', 'the page after; it is printed below a page')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, { json, ...query }: ListOptions) => {
        const page = await createClient(terminal).get<EventPage>(
          '/api/admin/stripe/webhook-logs',
          query,
        );
        if (json) printJson(terminal, page);
        else showList(terminal, page, query);
        return EXIT.ok;
      }),
    );

  events
    .command('show <event-id>')
    .description('One event with its attempts, the entries it wrote, and its object’s other events')
    .option('--payload', 'print the payload as well')
    .option('--json', 'answer for programs')
    .action(
      run(async (terminal, eventId: string, options: { payload?: true; json?: true }) => {
        const path = `/api/admin/stripe/webhook-logs/${encodeURIComponent(eventId)}`;
        const event = await createClient(terminal).get<EventDetail>(path);
        if (options.json) printJson(terminal, event);
        else showEvent(terminal, event, options.payload === true);
        return EXIT.ok;
      }),
    );
};

export function statusText({ colours }: Terminal, status: string): string {
  if (status === 'processed') return colours.green(status);
  if (status === 'dead') return colours.red(status);
  return status === 'failed' || status === 'parked' ? colours.yellow(status) : colours.dim(status);
}

function showList(
  terminal: Terminal,
  page: EventPage,
  { cursor, ...filter }: Omit<ListOptions, 'json'>,
) {
  const { data, next_cursor: next } = page;
  if (data.length === 0) {
    const filtered = filter.status ?? filter.type ?? filter.q;
    terminal.out(
      filtered === undefined
        ? 'No event has come in yet. `purser doctor` tells whether Stripe reaches this server.'
        : 'No event fits this filter.',
    );
    return;
  }
  terminal.out(eventsTable(terminal, data));
  if (next !== null) terminal.err(terminal.colours.dim(`\nMore: --cursor ${next}`));
}

const RECEIVED = 12;
const STATUS = 9;

/**
 * A line for each event where the longest type and id fit beside each other; else, in a usual
 * terminal, all ids stand below, since types are read and ids are copied: neither may be broken.
 */
export function eventsTable(terminal: Terminal, events: readonly EventSummary[]): string {
  const widest = (field: 'event_type' | 'event_id') =>
    Math.max(...events.map((event) => event[field].length));
  const id = widest('event_id');
  const isWide = RECEIVED + STATUS + widest('event_type') + id + 4 * GAP < terminal.width;
  return table(
    terminal,
    [
      { head: 'received', width: RECEIVED },
      { head: 'status', width: STATUS },
      { head: 'type' },
      ...(isWide ? [{ head: 'event', width: id }] : []),
    ],
    events.map((event) => toRow(terminal, event, isWide)),
  );
}

function toRow(terminal: Terminal, event: EventSummary, isWide: boolean): Row {
  const { colours } = terminal;
  const why = event.error ?? (event.status === 'parked' ? event.reason : null);
  const cells = [
    shortTime(event.received_at),
    statusText(terminal, event.status),
    event.event_type,
    ...(isWide ? [event.event_id] : []),
  ];
  const below = [...(isWide ? [] : [event.event_id]), ...(why === null ? [] : [colours.dim(why)])];
  return below.length === 0 ? { cells } : { cells, note: below.join('\n') };
}

function showEvent(terminal: Terminal, event: EventDetail, withPayload: boolean): void {
  const { out, colours } = terminal;
  out(
    details(terminal, [
      ['event', event.event_id],
      ['type', event.event_type],
      ['object', event.object_id],
      ['status', statusText(terminal, event.status)],
      ['reason', event.reason],
      ['error', event.error],
      ['waits for', event.waiting_for],
      ['made', event.event_created_at],
      ['received', event.received_at],
      ['ended', event.ended_at],
      ['retries', event.retry_count === 0 ? null : String(event.retry_count)],
      ['next try', event.next_attempt_at],
    ]),
  );
  if (event.entries.length > 0) {
    out(`\n${colours.bold('Entries it wrote')}`);
    out(
      table(
        terminal,
        [
          { head: 'entry', width: 10, whole: true },
          { head: 'type', width: 18 },
          { head: 'credits', width: 9, right: true },
          { head: 'user' },
        ],
        event.entries.map((entry) => ({
          cells: [
            entry.transaction_id,
            entry.transaction_type,
            signed(entry.amount),
            entry.user_id,
          ],
        })),
      ),
    );
  }
  if (event.attempts.length > 0) {
    out(`\n${colours.bold('Attempts that failed')}`);
    out(
      table(
        terminal,
        [{ head: 'at', width: 12 }, { head: 'cause', width: 9 }, { head: 'error' }],
        event.attempts.map(({ at, cause, error }) => ({ cells: [shortTime(at), cause, error] })),
      ),
    );
  }
  if (event.object_events.length > 0) {
    out(`\n${colours.bold('Other events of its object')}`);
    out(eventsTable(terminal, event.object_events));
  }
  if (withPayload) out(`\n${JSON.stringify(event.payload, null, 2)}`);
  if (['failed', 'dead', 'parked'].includes(event.status)) {
    terminal.err(colours.dim(`\nTo work on it again: purser replay ${shellWord(event.event_id)}`));
  }
}

export const signed = (amount: number) => (amount > 0 ? `+${amount}` : String(amount));
