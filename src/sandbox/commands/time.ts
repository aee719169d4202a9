import { ONLY_STRIPES_TIME } from '../controlClock.ts';
import type { AdvanceBy } from '../handle.types.ts';
import { command, UsageError, word } from './command.ts';

/** In days, so that fractions of one are hours. */
const UNITS: Readonly<Record<string, number>> = { h: 1 / 24, d: 1, w: 7, y: 365 };

/** `3h`, `10d`, `2w`, `1y`, or a day or moment of ISO 8601. @throws UsageError */
export function howFar(text: string): AdvanceBy {
  const span = /^(\d+(?:\.\d+)?)([hdwy])$/.exec(text);
  if (span) return { days: Number(span[1]) * (UNITS[span[2] ?? ''] ?? 1) };
  const moment = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text) : null;
  if (moment && !Number.isNaN(moment.getTime())) return { to: moment.toISOString() };
  throw new UsageError(`How far is ${text}? Say 3h, 10d, 2w or 1y, or a day like 2027-01-31.`);
}

export const timeCommands = {
  advance: command({
    usage: '<how far>',
    about: 'moves the clock ahead: 3h, 10d, 2w, 1y, or to a day like 2027-01-31',
    help: `Everything due on the way happens in order, and its webhooks are sent and answered.
${ONLY_STRIPES_TIME}`,
    run: (sandbox, words) => sandbox.advance(howFar(word(words, 0, 'how far'))),
    show: ({ now_iso, tasks, attempts }) =>
      `It is ${now_iso}. On the way: ${tasks} things happened, ${attempts} webhook attempts.\n${ONLY_STRIPES_TIME}`,
  }),
  freeze: command({
    usage: '',
    about: 'stops the clock',
    run: (sandbox) => sandbox.freeze(),
    show: ({ now_iso }) => `The clock stands at ${now_iso}.`,
  }),
  flow: command({
    usage: '',
    about: 'lets the clock run again',
    run: (sandbox) => sandbox.flow(),
    show: ({ now_iso }) => `The clock runs; it is ${now_iso}.`,
  }),
};
