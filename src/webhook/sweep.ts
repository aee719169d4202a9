import { claimEvents, requeueParkedEvents } from './inbox.ts';
import { type ProcessDeps, type ProcessOutcome, processEvent } from './process.ts';

const CLAIM_MAX = 16;
const PARKED_MAX = 200;

/**
 * Works on everything that is due: retries, events of crashed workers, parked ones whose user
 * exists by now, and what came while the process was busy. Ends when nothing is due or
 * `shouldStop` says so; what is left is the next sweep's. Answers counts by outcome.
 */
export async function sweepInbox(
  deps: ProcessDeps,
  shouldStop: () => boolean,
): Promise<Record<string, number>> {
  const { requeued } = await requeueParkedEvents(deps.db, PARKED_MAX);
  const counts: Record<string, number> = { requeued };
  while (!shouldStop()) {
    const events = await claimEvents(deps.db, CLAIM_MAX);
    if (events.length === 0) break;
    const outcomes = await Promise.all(events.map((event) => processEvent(deps, event)));
    for (const outcome of outcomes satisfies ProcessOutcome[]) {
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
  }
  return counts;
}
