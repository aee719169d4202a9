import { setTimeout as pause } from 'node:timers/promises';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';

/** Events put back at a time, and how long the next batch waits: 50 a second at the most. */
const BATCH = 50;
const PAUSE_SECONDS = 1;
/** While so many are due in the inbox nothing is added: new events come first. */
const BACKLOG_MAX = 200;

/** A replay of many events, worked off by the job `webhook-replay`. */
export interface Replay {
  id: string;
  status: 'running' | 'done' | 'canceled';
  filter: Record<string, unknown>;
  /** How many events it was about when it began. */
  matched: number;
  /** How many are back in the inbox. */
  requeued: number;
  actor: string;
  started_at: string;
  finished_at: string | null;
  canceled_by: string | null;
}

export interface Replays {
  /** The last 50, newest first. */
  list(): Promise<Replay[]>;
  /** Errors: `not_found`. */
  get(id: string): Promise<Replay>;
  /** Puts nothing more back; one that has ended stays as it ended. Errors: `not_found`. */
  cancel(id: string, actor: string): Promise<Replay>;
}

export function createReplays({ db }: { db: Database }): Replays {
  return {
    list: () => db.rpc('list_webhook_replays'),
    get: async (id) => known(id, await db.rpc('get_webhook_replay', { p_replay_id: id })),
    cancel: async (id, actor) =>
      known(id, await db.rpc('cancel_webhook_replay', { p_replay_id: id, p_actor: actor })),
  };
}

function known(id: string, answer: { outcome: string; replay?: Replay }): Replay {
  if (answer.replay === undefined) {
    throw new PurserError('not_found', { detail: `There is no replay ${id}.` });
  }
  return answer.replay;
}

/**
 * Works off the replays that run, batch by batch, until none is left or `shouldStop` says so. The
 * database keeps the pace, so that several of these are no faster than one.
 */
export async function runReplays(
  db: Database,
  shouldStop: () => boolean,
): Promise<{ batches: number; finished: number }> {
  const counts = { batches: 0, finished: 0 };
  while (!shouldStop()) {
    const { outcome } = await db.rpc<{ outcome: 'advanced' | 'finished' | 'waiting' | 'idle' }>(
      'advance_webhook_replay',
      { p_batch: BATCH, p_pause_seconds: PAUSE_SECONDS, p_backlog_max: BACKLOG_MAX },
      // A repeat after a lost answer would put the next batch back too soon.
      { idempotent: false },
    );
    if (outcome === 'idle') break;
    if (outcome === 'waiting') {
      await pause((PAUSE_SECONDS * 1000) / 2);
      continue;
    }
    counts.batches += 1;
    if (outcome === 'finished') counts.finished += 1;
  }
  return counts;
}
