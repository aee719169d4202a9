import type { Database } from '../core/ports.ts';

export interface BalanceNoticesDeps {
  db: Database;
  /** Balance from which on a user is told; null = nobody is. */
  lowBalance: number | null;
  /** How long before its end a lot is told of; null = never. */
  expiringDays: number | null;
  buyUrl: () => string;
}

/**
 * Writes messages about balances that ran low and credits that expire soon; the job
 * `balance-notices`. It reads what was written since the last look, so spends know nothing of it.
 */
export async function writeBalanceNotices(
  { db, lowBalance, expiringDays, buyUrl }: BalanceNoticesDeps,
  shouldStop: () => boolean,
): Promise<{ low_balance: number; credits_expiring: number }> {
  const report = { low_balance: 0, credits_expiring: 0 };
  let more = true;
  while (more && !shouldStop()) {
    const page = await db.rpc<typeof report & { more: boolean }>('enqueue_balance_notices', {
      p_low_balance: lowBalance,
      p_expiring_days: expiringDays,
      p_buy_url: buyUrl(),
    });
    report.low_balance += page.low_balance;
    report.credits_expiring += page.credits_expiring;
    more = page.more;
  }
  return report;
}
