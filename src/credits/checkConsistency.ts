import type { Database, Logger } from '../core/ports.ts';

/** Users a call: some 50 us an entry, so a page of them stays far below any statement time-out. */
const PAGE = 200;

interface CheckedPage {
  users: number;
  drifts: number;
  resolved: number;
  more: boolean;
}

/**
 * The proof of the ledger as a job: users touched since the last run, then the next part of the
 * full check when its month has come. Both write what they find into `reconciliation_findings` and
 * resolve what is gone. A run that is asked to stop goes on there the next time.
 */
export async function checkConsistency(
  { db, logger }: { db: Database; logger: Logger },
  shouldStop: () => boolean,
): Promise<{ users: number; drifts: number; resolved: number }> {
  const sum = { users: 0, drifts: 0, resolved: 0 };
  for (const pass of ['check_changed_credits', 'check_all_credits']) {
    for (let more = true; more && !shouldStop(); ) {
      const page = await db.rpc<CheckedPage>(pass, { p_limit: PAGE });
      sum.users += page.users;
      sum.drifts += page.drifts;
      sum.resolved += page.resolved;
      more = page.more;
    }
  }
  if (sum.drifts > 0) {
    logger.error(
      `The credit ledger does not add up in ${sum.drifts} places: see validate_credits_consistency() and reconciliation_findings`,
      sum,
    );
  }
  return sum;
}
