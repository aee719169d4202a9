/** One history, lived by the model and by the ledger, step by step. */
import { expect } from '@jest/globals';
import fc from 'fast-check';
import { countersOfAll, rowsOf, type SqlLedger } from './sqlLedger.ts';
import { HOUR, history, play, type Step, USERS } from './steps.ts';

/** Length of the past that a history may fill before the present, in hours. */
const PAST_HOURS = 4000;

export interface History {
  /** It begins long ago, so that accounts return late; or years ahead, so that they return early. */
  past: boolean;
  steps: Step[];
}

/** Fails at the first answer, counter or row in which the ledger differs from the model. */
export async function compare(ledger: SqlLedger, { past, steps }: History): Promise<Set<string>> {
  const wall = Date.now();
  const start = wall + (past ? -PAST_HOURS - 0.5 : PAST_HOURS + 0.5) * HOUR;
  const { books, script } = play(steps, start, wall, countersOfAll);
  const { steps: lived, end } = await ledger.live(script, USERS, wall);
  const seen = new Set<string>();
  for (const [index, { request, expected }] of script.entries()) {
    const told = lived[index];
    const at = { step: index, request };
    expect({ ...at, ...told }).toEqual({ ...at, ...expected, drift: [] });
    seen.add(`${request.name} ${wordOf(expected.answer)}`);
  }
  expect(end).toEqual(rowsOf(books));
  for (const account of books.accounts.values()) {
    for (const entry of account.entries) seen.add(`entry ${entry.type}`);
  }
  return seen;
}

const wordOf = (answer: Record<string, unknown>) =>
  'error' in answer ? answer.error : (answer.outcome ?? 'done');

/** Seed of this run: PURSER_PROOF_SEED, to live the histories of an earlier run again. */
export const proofSeed = () => Number(process.env.PURSER_PROOF_SEED ?? Date.now() % 2 ** 31);

/** Lives so many random histories; how many of them had each outcome and each type of entry. */
export async function liveHistories(
  ledger: SqlLedger,
  { count, steps, seed }: { count: number; steps: number; seed: number },
): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.record({ past: fc.boolean(), steps: history(steps) }), async (lived) => {
      for (const word of await compare(ledger, lived)) seen.set(word, (seen.get(word) ?? 0) + 1);
    }),
    { numRuns: count, seed, endOnFailure: process.env.PURSER_PROOF_SHRINK === 'no' },
  );
  return seen;
}
