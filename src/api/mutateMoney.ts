import type { WrittenRows } from '../credits/dryRun.ts';
import type { Answer } from './defineRoute.ts';
import type { AppDeps, Money } from './deps.ts';

interface DryAnswer {
  dry_run?: true | undefined;
  rows?: WrittenRows | undefined;
}

/**
 * Runs a mutation of money, or its dry run where the query asks for one, and answers both alike.
 * `replayed` is told by a header.
 */
export async function mutateMoney<Body extends object>(
  deps: AppDeps,
  { dry_run }: { dry_run?: boolean | undefined },
  work: (money: Money) => Promise<{ answer: Body; replayed?: boolean }>,
): Promise<Answer<Body & DryAnswer>> {
  const { answer: done, rows } = dry_run
    ? await deps.dryRun(work)
    : { answer: await work(deps), rows: undefined };
  return {
    body: rows === undefined ? done.answer : { ...done.answer, dry_run: true, rows },
    headers: done.replayed ? { 'Idempotency-Replayed': 'true' } : {},
  };
}
