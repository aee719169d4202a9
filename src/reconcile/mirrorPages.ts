import type { Json, RedisStore } from '../core/ports.ts';
import { type Drift, findMirrorDrifts, mendMirrors } from '../credits/checkMirror.ts';
import { listMirrorRecords } from '../credits/ledger.ts';
import { type NewFinding, noteFinding } from './book.ts';
import type { JudgeDeps, JudgedBy } from './judge.ts';
import type { Difference } from './reconcile.types.ts';
import { proposeRepair } from './repairs.ts';

/** The copies in Redis against the ledger, which decides. */

/** Users a page: one call to each side. */
const PAGE = 500;

export interface MirrorDeps extends Omit<JudgeDeps, 'redis'> {
  /** The store without the bound on each call: batches take longer. */
  redis: RedisStore;
  pause: (ms: number) => Promise<void>;
}

export interface ComparedMirrors {
  users: number;
  differences: Difference[];
  next: string | null;
}

/** A page of all users in the order of their ids. */
export async function compareMirrors(
  deps: MirrorDeps,
  by: JudgedBy,
  after: string | null,
): Promise<ComparedMirrors> {
  const { records, complete, last } = await listMirrorRecords(deps.db, after, PAGE);
  const users = records.map(({ user_id }) => user_id);
  const differences = await compareCopies(deps, by, users);
  return { users: users.length, differences, next: complete ? null : last };
}

/**
 * Compares the copies of these users, and writes those that differ anew. A copy that is missing is
 * written without a word: it costs its reader a look at the ledger, and nobody is answered wrongly.
 */
export async function compareCopies(
  deps: MirrorDeps,
  by: JudgedBy,
  users: string[],
): Promise<Difference[]> {
  const { db, redis, clock, pause } = deps;
  const nowMs = () => clock.now().getTime();
  // What was healed just now is on its way.
  await deps.mirror.idle();
  const found = await findMirrorDrifts({ db, redis, nowMs, pause }, users);
  if (by.dryRun) {
    return found.drifts.map((drift) => ({ ...findingOf(drift), outcome: 'would_repair' }));
  }
  await mendMirrors({ redis }, found);
  const differences: Difference[] = [];
  for (const drift of found.drifts) {
    const finding = findingOf(drift);
    await noteFinding(db, by, finding, true);
    differences.push({ ...finding, outcome: 'repaired' });
  }
  return differences;
}

function findingOf({ userId, issue, stored, ledger }: Drift): NewFinding {
  const code = `mirror_${issue}` as const;
  const subject = `mirror:${userId}`;
  const detail = {
    redis: stored === null ? null : ({ ...stored } as Json),
    ledger: ledger === null ? null : ({ ...ledger } as Json),
  };
  const repair = proposeRepair(code, { subject, userId, detail });
  return { code, subject, user_id: userId, detail, repair };
}
