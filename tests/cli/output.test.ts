import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { eventsTable } from '../../src/cli/commands/events.ts';
import { table } from '../../src/cli/table.ts';
import { cleaned, printJson } from '../../src/cli/terminal.ts';
import { shellWord } from '../../src/core/shellWord.ts';
import type { EventSummary } from '../../src/webhook/eventLog.types.ts';
import { testTerminal, widest } from './support/runIt.ts';

const LONG_TYPE = 'checkout.session.async_payment_succeeded';
const event = (number: number, more: Partial<EventSummary> = {}) =>
  ({
    event_id: `evt_1MqqbKLt4dXK03v5qaIbiNC${number}`,
    event_type: 'invoice.paid',
    object_id: 'in_1',
    status: 'processed',
    reason: null,
    error: null,
    received_at: `${new Date().getUTCFullYear()}-11-21T10:00:00.000Z`,
    ...more,
  }) as EventSummary;

describe('the list of events', () => {
  const events = [
    event(1),
    event(2, { event_type: LONG_TYPE }),
    event(3, { status: 'failed', error: 'The price has no product.' }),
  ];

  it('breaks no type and no id at 80 columns: ids stand below', () => {
    const shown = eventsTable(testTerminal({}), events);
    expect(widest(shown)).toBeLessThanOrEqual(80);
    expect(shown).toBe(
      `
received      status     type
21 Nov 10:00  processed  invoice.paid
              evt_1MqqbKLt4dXK03v5qaIbiNC1
21 Nov 10:00  processed  ${LONG_TYPE}
              evt_1MqqbKLt4dXK03v5qaIbiNC2
21 Nov 10:00  failed     invoice.paid
              evt_1MqqbKLt4dXK03v5qaIbiNC3
              The price has no product.`.trimStart(),
    );
  });

  it('has a line for each where there is room, also for a long id', () => {
    const id = 'evt_test_65SDkFzMhJr2l4qK5LC16SDkFyRhXOW2';
    const shown = eventsTable(testTerminal({}, { width: 120 }), [
      ...events,
      event(4, { event_id: id }),
    ]);
    expect(widest(shown)).toBeLessThanOrEqual(120);
    const lines = shown.split('\n').map((line) => line.trim().split(/ {2,}/));
    expect(lines.slice(0, 3)).toEqual([
      ['received', 'status', 'type', 'event'],
      ['21 Nov 10:00', 'processed', 'invoice.paid', 'evt_1MqqbKLt4dXK03v5qaIbiNC1'],
      ['21 Nov 10:00', 'processed', LONG_TYPE, 'evt_1MqqbKLt4dXK03v5qaIbiNC2'],
    ]);
    expect(lines.at(-1)?.at(-1)).toBe(id);
  });
});

it('cuts no number and no id: their columns grow', () => {
  const terminal = testTerminal({});
  const id = '6f1c2a9e-0b7d-4a55-9a3e-2f8f1f0c9d11';
  const columns = [
    { head: 'user', width: 8, whole: true },
    { head: 'credits', width: 7, right: true },
    { head: 'kind', width: 4 },
    { head: 'why' },
  ];
  const shown = table(terminal, columns, [{ cells: [id, '9007199254740991', 'purchase', 'x'] }]);
  expect(shown).toContain(id);
  expect(shown).toContain('9007199254740991');
  expect(shown).toContain('pur…');
  expect(widest(shown)).toBeLessThanOrEqual(80);
});

describe('what comes from outside', () => {
  const hostile = '\u001b[2Jgone\u0007 \u001b[8mhidden \u009b1A';

  it('moves no cursor and hides nothing, in a table as in a sentence', () => {
    const terminal = testTerminal({});
    const shown = cleaned(terminal);
    shown.out(hostile);
    shown.err(hostile);
    shown.out(
      table(shown, [{ head: 'a', width: 9 }, { head: 'b' }], [{ cells: [hostile, hostile] }]),
    );
    const { out, err } = terminal.printed();
    expect(`${out}${err}`).toContain('gone');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(`${out}${err}`).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });

  it('reaches programs unchanged, and no terminal', () => {
    const terminal = testTerminal({});
    printJson(cleaned(terminal), { id: hostile });
    const { out } = terminal.printed();
    expect(JSON.parse(out)).toEqual({ id: hostile });
    expect(out).not.toMatch(/[\u007f-\u009f]/);
  });
});

it('keeps the commands’ own colours, wherever they stand in a cell', () => {
  const terminal = testTerminal({}, { colour: true });
  const { colours } = terminal;
  const cells = [`Balance: ${colours.green('50 credits')}`, colours.dim('x'.repeat(70))];
  const shown = cleaned(terminal);
  shown.out(table(shown, [{ head: '', width: 20 }, { head: '' }], [{ cells }]));
  const { out } = terminal.printed();
  expect(out).toContain('\u001b[32m50 credits\u001b[39m');
  expect(out).not.toContain('?');
});

it('tells commands that may be copied, whatever a user’s id holds', async () => {
  expect(shellWord('auth0:61f-7_a@b.example')).toBe('auth0:61f-7_a@b.example');
  for (const id of [`o'hara $(id) "x"`, '', 'a b', '`id`', '*', '~', '-n\\', "'"]) {
    const { stdout } = await promisify(execFile)('sh', ['-c', `printf %s ${shellWord(id)}`]);
    expect(stdout).toBe(id);
  }
});
