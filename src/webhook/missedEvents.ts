import type Stripe from 'stripe';
import { callStripe } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';
import type { Clock, Database, Logger } from '../core/ports.ts';
import { receiveMissedEvents } from './inbox.ts';
import { readEvent } from './stripeEvent.ts';
import { type MissedEventsWindow, walkStripeEvents } from './stripeEventPages.ts';

/** Name of the job and of its cursor. */
export const MISSED_EVENTS = 'replay-missed-events';
/** Looked at twice: events do not come into Stripe's list in the order of their time. */
const OVERLAP_SECONDS = 600;
/** Stripe keeps events for 30 days. */
const WINDOW_DAYS = 30;
const DAY_MS = 86_400_000;
const BATCH = 100;
const EVENT_IDS_MAX = 1_000;
/** Of one admin request. */
const ACTION_MS_MAX = 20_000;

export interface MissedEventsDeps {
  db: Database;
  stripe: Stripe;
  clock: Clock;
  logger: Logger;
  /** The types that are acted upon: others need not be fetched after. */
  types: ReadonlySet<string>;
}

export interface MissedEventsRun {
  from: string;
  /** Events of our types that Stripe has. */
  listed: number;
  /** Those that were not in the inbox, and are now (in a dry run: would be). */
  received: number;
  duplicates: number;
  /** The first 1000 of `received`. */
  event_ids: string[];
  /** False: time ran out; go on at `next_since`. */
  complete: boolean;
  next_since: string | null;
}

export interface MissedEventsState {
  /** How far the job has compared, in Stripe's time; null before its first run. */
  position: string | null;
  last_run: {
    started_at: string;
    finished_at: string | null;
    outcome: 'done' | 'failed' | null;
    result: Record<string, unknown> | null;
  } | null;
}

export interface MissedEvents {
  /** The job: goes on where it stopped, and remembers how far it came. */
  run(shouldStop: () => boolean): Promise<MissedEventsRun>;
  /**
   * The same once, since a time of the caller's choice (default: where the job is), audited.
   * Errors: `invalid_request` for a time of which Stripe has no events any more.
   */
  replaySince(
    request: { since?: string | undefined; dry_run?: boolean | undefined },
    actor: string,
  ): Promise<MissedEventsRun & { dry_run: boolean }>;
  state(): Promise<MissedEventsState>;
}

/**
 * Compares Stripe's own list of events with the inbox and receives what was never delivered, oldest
 * first, under the ids Stripe gave: a delivery that still comes is a duplicate. The inbox does the
 * work at its own pace. The payload may have another shape than the endpoint's, which does not
 * matter: handlers read the objects themselves.
 */
export function createMissedEvents(deps: MissedEventsDeps): MissedEvents {
  const { db, stripe, clock, logger, types } = deps;

  async function compare(
    from: Date,
    options: { dryRun: boolean; actor: string | null },
    shouldStop: () => boolean,
    onCompared: (until: Date) => Promise<void>,
  ): Promise<MissedEventsRun> {
    const run = nothingYet(from.toISOString());
    const list = (window: MissedEventsWindow) =>
      callStripe(() => stripe.events.list({ limit: 100, ...window }));
    let reached = from;
    for await (const { events, until } of walkStripeEvents(list, from, shouldStop)) {
      // Stripe filters by at most 20 types, and we know more.
      const ours = events.filter(({ type }) => types.has(type));
      run.listed += ours.length;
      for (let at = 0; at < ours.length; at += BATCH) {
        const page = ours.slice(at, at + BATCH).map((event) => readEvent(event));
        const answer = await receiveMissedEvents(db, page, options);
        run.received += answer.received.length;
        run.duplicates += answer.duplicates;
        run.event_ids.push(...answer.received.slice(0, EVENT_IDS_MAX - run.event_ids.length));
      }
      if (until === null) {
        const newest = events.at(-1);
        if (newest !== undefined) await onCompared(new Date(newest.created * 1000));
        return run;
      }
      reached = until;
      await onCompared(until);
    }
    return { ...run, complete: false, next_since: reached.toISOString() };
  }

  const oldest = () => new Date(clock.now().getTime() - WINDOW_DAYS * DAY_MS);

  return {
    async run(shouldStop) {
      const cursor = await db.rpc<{ outcome: 'found' | 'begun'; from: string }>(
        'get_event_cursor',
        { p_name: MISSED_EVENTS, p_overlap_seconds: OVERLAP_SECONDS },
      );
      // What was sold before Purser was here is not Purser's: the first run begins the comparison.
      if (cursor.outcome === 'begun') return nothingYet(cursor.from);
      const from = new Date(Math.max(new Date(cursor.from).getTime(), oldest().getTime()));
      const run = await compare(from, { dryRun: false, actor: null }, shouldStop, async (until) => {
        await db.rpc('move_event_cursor', {
          p_name: MISSED_EVENTS,
          p_position: until.toISOString(),
        });
      });
      if (run.received > 0) {
        logger.warn(`${run.received} events came from Stripe’s list, not by delivery`, {
          event_ids: run.event_ids.slice(0, 20),
        });
      }
      return run;
    },

    async replaySince({ since, dry_run: dryRun = false }, actor) {
      const state = await this.state();
      const from = new Date(since ?? state.position ?? clock.now());
      if (from.getTime() < oldest().getTime()) {
        throw new PurserError('invalid_request', {
          detail: `Stripe keeps events for ${WINDOW_DAYS} days; since must not be before ${oldest().toISOString()}.`,
          extensions: {
            errors: [{ path: 'since', message: `must not be more than ${WINDOW_DAYS} days ago` }],
          },
        });
      }
      const endsAt = clock.now().getTime() + ACTION_MS_MAX;
      const run = await compare(
        from,
        { dryRun, actor: dryRun ? null : actor },
        () => clock.now().getTime() >= endsAt,
        async () => {},
      );
      return { ...run, dry_run: dryRun };
    },

    state: () => db.rpc('get_missed_events_state', { p_name: MISSED_EVENTS }),
  };
}

function nothingYet(from: string): MissedEventsRun {
  return {
    from,
    listed: 0,
    received: 0,
    duplicates: 0,
    event_ids: [],
    complete: true,
    next_since: null,
  };
}
