import { claimEvents, requeueParkedEvents } from './inbox.ts';
import { type ProcessDeps, type ProcessOutcome, processEvent } from './process.ts';

const CLAIM_MAX = 16;
const PARKED_MAX = 200;

/**
 * Works on everything that is due: retries, events of crashed workers, parked ones whose user
 * exists by now, and what came while the process was busy. Ends when nothing is due, `shouldStop`
 * says so, or `eventsMax` were taken; what is left is the next sweep's. Answers counts by outcome.
 */
export async function sweepInbox(
  deps: ProcessDeps,
  shouldStop: () => boolean,
  eventsMax = Number.POSITIVE_INFINITY,
): Promise<Record<string, number>> {
  const { requeued } = await requeueParkedEvents(deps.db, PARKED_MAX);
  const counts: Record<string, number> = { requeued };
  for (let taken = 0; taken < eventsMax && !shouldStop(); ) {
    const events = await claimEvents(deps.db, Math.min(CLAIM_MAX, eventsMax - taken));
    if (events.length === 0) break;
    taken += events.length;
    const outcomes = await Promise.all(events.map((event) => processEvent(deps, event)));
    for (const outcome of outcomes satisfies ProcessOutcome[]) {
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
  }
  return counts;
}
