import type { Database, Json, JsonObject, Logger } from '../core/ports.ts';
import {
  checkMirrorPage,
  MIRROR_CHECK_START,
  type MirrorCheckCounts,
  type MirrorCheckCursor,
  type MirrorCheckDeps,
  noMirrorCounts,
} from './checkMirror.ts';

/** Users a call: some 50 us an entry, so a page of them stays far below any statement time-out. */
const PAGE = 200;

interface CheckedPage {
  users: number;
  drifts: number;
  resolved: number;
  more: boolean;
}

type LedgerCounts = Record<'users' | 'drifts' | 'resolved', number>;

const noLedgerCounts = (): LedgerCounts => ({ users: 0, drifts: 0, resolved: 0 });

/** Adds pages of one pass to `counts`; true when the pass has ended. */
async function checkLedger(
  db: Database,
  pass: { name: string; args: Record<string, number> },
  counts: LedgerCounts,
  shouldStop: () => boolean,
): Promise<boolean> {
  while (!shouldStop()) {
    const page = await db.rpc<CheckedPage>(pass.name, { p_limit: PAGE, ...pass.args });
    counts.users += page.users;
    counts.drifts += page.drifts;
    counts.resolved += page.resolved;
    if (!page.more) return true;
  }
  return false;
}

function sayDrift(logger: Logger, counts: LedgerCounts): void {
  if (counts.drifts === 0) return;
  logger.error(
    `The credit ledger does not add up in ${counts.drifts} places: see validate_credits_consistency() and reconciliation_findings`,
    { ...counts },
  );
}

/**
 * The proof of the ledger each minute: users touched since the last run. What is found stands in
 * `reconciliation_findings`, what is gone is resolved. Asked to stop, it goes on there the next time.
 */
export async function checkConsistency(
  { db, logger }: { db: Database; logger: Logger },
  shouldStop: () => boolean,
): Promise<LedgerCounts> {
  const counts = noLedgerCounts();
  await checkLedger(db, { name: 'check_changed_credits', args: {} }, counts, shouldStop);
  sayDrift(logger, counts);
  return counts;
}

/** How far a full check has come, over all its runs. */
interface FullCheck {
  [member: string]: Json;
  began_at: string;
  /** Null while the ledger is checked. */
  mirror_at: { stage: MirrorCheckCursor['stage']; at: string | null } | null;
  ledger: LedgerCounts;
  mirror: MirrorCheckCounts;
}

/**
 * The proof of everything, monthly: every user's entries, lots, holds, seals and sums, then every
 * copy in Redis, field by field. `cursor` is what an unfinished run reported; each page is
 * reported. Answers the counts of the whole pass, also where it took several runs.
 */
export async function checkEverything(
  deps: MirrorCheckDeps & { logger: Logger },
  shouldStop: () => boolean,
  context: {
    cursor: JsonObject | null;
    report(progress: JsonObject | null, cursor: JsonObject | null): void;
  },
): Promise<JsonObject> {
  const check: FullCheck = (context.cursor as FullCheck | null) ?? {
    began_at: new Date(deps.nowMs()).toISOString(),
    mirror_at: null,
    ledger: noLedgerCounts(),
    mirror: noMirrorCounts(),
  };
  const answer = () => ({ began_at: check.began_at, ...check.ledger, mirror: { ...check.mirror } });
  const report = () => context.report(answer(), check);
  const stopAndReport = () => {
    report();
    return shouldStop();
  };

  if (check.mirror_at === null) {
    const pass = { name: 'check_all_credits', args: { p_every_days: 0 } };
    if (!(await checkLedger(deps.db, pass, check.ledger, stopAndReport))) return answer();
    check.mirror_at = MIRROR_CHECK_START;
    sayDrift(deps.logger, check.ledger);
  }
  while (check.mirror_at !== null && !stopAndReport()) {
    check.mirror_at = await checkMirrorPage(deps, check.mirror_at, check.mirror);
  }
  if (check.mirror_at === null) {
    const { ahead, differs, behind, orphaned } = check.mirror;
    const wrong = ahead + differs + behind + orphaned;
    if (wrong > 0) {
      deps.logger.error(
        `${wrong} copies in Redis differed from the ledger and were mended: see reconciliation_findings`,
        { ...check.mirror },
      );
    }
  }
  return answer();
}
