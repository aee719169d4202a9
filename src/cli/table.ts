import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import { plainText, type Terminal } from './terminal.ts';

export interface Column {
  head: string;
  /** Columns of the screen. One may be left out: it takes what is left, and wraps. */
  width?: number;
  /** Numbers: to the right, and never cut; the column grows where one is longer than its width. */
  right?: boolean;
  /** Ids, which are copied: never cut either. */
  whole?: boolean;
}

/** A row; `note`, of one line or several, stands below it, from the second column on. */
export interface Row {
  cells: readonly string[];
  note?: string;
}

/** Blank columns after each column. */
export const GAP = 2;

/** A table without lines, as wide as the terminal. Cells are cleaned of control characters. */
export function table(terminal: Terminal, given: readonly Column[], rows: readonly Row[]): string {
  const { colours, width } = terminal;
  const columns = given.map((column, place) => grown(column, place, rows));
  const fixed = columns.reduce((sum, { width: own = 0 }) => sum + own + GAP, 0);
  const rest = Math.max(width - fixed - 1, 12);
  const widths = columns.map(({ width: own = rest }) => own + GAP);
  const shown = new Table({
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': GAP, head: [], border: [], compact: true },
    colWidths: widths,
    colAligns: columns.map(({ right }) => (right ? 'right' : 'left')),
    wordWrap: true,
    wrapOnWordBoundary: true,
  });
  if (columns.some(({ head }) => head !== '')) {
    shown.push(columns.map(({ head }) => colours.dim(head)));
  }
  for (const { cells, note } of rows) {
    shown.push(cells.map((cell, index) => clean(cell, columns[index]?.width, rest)));
    if (note !== undefined) {
      shown.push([
        '',
        {
          colSpan: columns.length - 1,
          content: breakLong(plainText(note), width - (columns[0]?.width ?? 0) - 2 * GAP),
        },
      ]);
    }
  }
  return shown
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function grown(column: Column, place: number, rows: readonly Row[]): Column {
  const { width, right, whole } = column;
  if (width === undefined || !(right || whole)) return column;
  const longest = Math.max(0, ...rows.map(({ cells }) => visible(cells[place] ?? '').length));
  return { ...column, width: Math.max(width, longest) };
}

const NO_LINES = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
    'middle',
  ].map((name) => [name, '']),
);

/** As it is seen, without colours. */
const visible = stripVTControlCharacters;

/** Too long for a column of fixed width: cut, so that a table keeps one line a row. */
function clean(cell: string, width: number | undefined, rest: number): string {
  const text = plainText(cell);
  if (width === undefined) return breakLong(text, rest);
  const seen = visible(text);
  return seen.length <= width ? text : `${seen.slice(0, width - 1)}…`;
}

/** Ids and addresses have no place to break; the table would cut them, and they are to be copied. */
function breakLong(text: string, width: number): string {
  // Colours take no room.
  const piece = new RegExp(`(?:(?:\\u001b\\[\\d+m)*.){1,${width}}(?:\\u001b\\[\\d+m)*`, 'gu');
  return text.replace(/\S+/g, (word) =>
    visible(word).length > width ? (word.match(piece) ?? [word]).join('\n') : word,
  );
}

/** Label and value, one a line. */
export function details(
  terminal: Terminal,
  pairs: readonly [label: string, value: string | null][],
): string {
  const shown = pairs.filter(
    (pair): pair is [string, string] => pair[1] !== null && pair[1] !== '',
  );
  const label = Math.max(...shown.map(([name]) => name.length), 1);
  return table(
    terminal,
    [{ head: '', width: label }, { head: '' }],
    shown.map(([name, value]) => ({ cells: [terminal.colours.dim(name), value] })),
  );
}

/** "21 Nov 10:00" in UTC; the year where it is another one. */
export function shortTime(iso: string | null): string {
  if (iso === null) return '';
  const at = new Date(iso);
  const month = MONTHS[at.getUTCMonth()] ?? '';
  const day = `${at.getUTCDate()}`.padStart(2);
  const time = iso.slice(11, 16);
  return at.getUTCFullYear() === new Date().getUTCFullYear()
    ? `${day} ${month} ${time}`
    : `${day} ${month} ${at.getUTCFullYear()}`;
}
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** "1 event", "3 events". */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}
