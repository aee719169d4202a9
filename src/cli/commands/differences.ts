import type { Difference } from '../../reconcile/reconcile.types.ts';
import { type Row, table } from '../table.ts';
import type { Terminal } from '../terminal.ts';

/** Nothing repairs it but somebody's decision. */
export const needsPerson = ({ outcome }: Difference) => outcome === 'open' || outcome === 'seen';

const WORDS: Record<Difference['outcome'], string> = {
  repaired: 'repaired',
  would_repair: 'would repair',
  open: 'for you',
  seen: 'for you',
  accepted: 'accepted',
};

/** Differences with what is done about each, and the command where there is one. */
export function differencesText(terminal: Terminal, differences: readonly Difference[]): string {
  const { colours } = terminal;
  const rows = differences.flatMap((difference): Row[] => {
    const { code, subject, user_id: userId, repair, outcome } = difference;
    const paint = needsPerson(difference) ? colours.yellow : colours.green;
    const about = userId === null ? subject : `${subject}, user ${userId}`;
    const lines = [`${code}: ${about}`, colours.dim(repair.sentence)];
    if (needsPerson(difference) && repair.command !== null) {
      lines.push(`${colours.cyan('→')} ${repair.command}`);
    }
    return lines.map((line, index) => ({
      cells: [index === 0 ? paint(WORDS[outcome]) : '', line],
    }));
  });
  return table(terminal, [{ head: '', width: 12 }, { head: '' }], rows);
}
