import { isRetryable, PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import {
  type BatchedOutcome,
  type ConsumeOutcome,
  consumeCredits,
  consumeCreditsBatch,
  type SpendOperation,
  type UserMirrorRecord,
} from './ledger.ts';

export interface Spent {
  outcome: ConsumeOutcome;
  /** Ends, and never rejects, when the copies that follow this answer are written or lost. */
  mirrored: Promise<void>;
}

/** A spend and the caller who waits for its answer. */
export interface Pending {
  readonly operation: SpendOperation;
  resolve(spent: Spent): void;
  reject(error: unknown): void;
}

export interface SpendCallDeps {
  db: Database;
  /** Takes the newest record of each user of a call; see `Spent.mirrored`. */
  mirror: (records: UserMirrorRecord[]) => Promise<void>;
}

export interface Settled<P extends Pending> {
  /** Answers the callers whose spends were decided; once. */
  answer(): void;
  /** Not decided by this call: to be sent again, alone. */
  undecided: P[];
}

/**
 * Asks the database to do these spends in one call. Never rejects.
 *
 * `alone`: they are all of one user, and the call waits for its lock. Otherwise users whose rows
 * are locked are skipped, and their spends given back to be sent alone; so are those that failed
 * by themselves. A call that fails is asked again in halves, so that a bad spend fails by itself
 * and the others keep their batches: at most twice as many calls as spends.
 */
export async function settleSpends<P extends Pending>(
  deps: SpendCallDeps,
  spends: P[],
  alone: boolean,
): Promise<Settled<P>> {
  if (spends.length === 0) return { answer: () => {}, undecided: [] };
  let answer: Answer;
  try {
    answer = await send(deps.db, spends, alone);
  } catch (error) {
    // A dependency that is away is away for each of them; asking one by one would bury it.
    if (isRetryable(error) || (spends.length === 1 && alone)) {
      return { answer: () => rejectAll(spends, error), undecided: [] };
    }
    if (spends.length === 1) return { answer: () => {}, undecided: spends };
    const half = Math.ceil(spends.length / 2);
    const first = await settleSpends(deps, spends.slice(0, half), alone);
    const second = await settleSpends(deps, spends.slice(half), alone);
    return {
      answer() {
        first.answer();
        second.answer();
      },
      undecided: [...first.undecided, ...second.undecided],
    };
  }
  const { outcomes, mirrors } = answer;
  // Begun before anybody is answered, so that a check sent upon the answer knows of the spend.
  const mirrored = deps.mirror(mirrors);
  const isUndecided = (index: number) => !alone && outcomes[index]?.outcome === 'busy';
  return {
    answer() {
      for (const [index, spend] of spends.entries()) {
        const outcome = outcomes[index];
        if (isUndecided(index)) continue;
        if (outcome === undefined) spend.reject(leftOut(index));
        else if (outcome.outcome === 'busy') spend.reject(stillLocked(spend.operation.user_id));
        else spend.resolve({ outcome, mirrored });
      }
    },
    undecided: spends.filter((_, index) => isUndecided(index)),
  };
}

interface Answer {
  /** By the place of the spend. */
  outcomes: BatchedOutcome[];
  mirrors: UserMirrorRecord[];
}

async function send(db: Database, spends: Pending[], alone: boolean): Promise<Answer> {
  const [first] = spends;
  if (first !== undefined && spends.length === 1 && alone) {
    const { outcome, mirror } = await consumeCredits(db, first.operation);
    return { outcomes: [outcome], mirrors: mirror === null ? [] : [mirror] };
  }
  const { results, mirrors } = await consumeCreditsBatch(
    db,
    spends.map(({ operation }) => operation),
    alone,
  );
  const outcomes: BatchedOutcome[] = [];
  for (const { index, ...outcome } of results) outcomes[index] = outcome;
  return { outcomes, mirrors };
}

function rejectAll(spends: Pending[], error: unknown): void {
  for (const spend of spends) spend.reject(error);
}

function leftOut(index: number): Error {
  return new Error(`consume_credits_batch left out the answer to operation ${index}`);
}

function stillLocked(userId: string): PurserError {
  return new PurserError('dependency_down', {
    detail: `The account of user ${userId} is locked by other work in the database, for seconds by now. Nothing was spent; send it again with the same key.`,
    retryAfterSeconds: 1,
  });
}
