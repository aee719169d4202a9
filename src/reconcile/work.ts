import { randomUUID } from 'node:crypto';
import { PurserError } from '../core/errors.ts';
import type { Clock, Database } from '../core/ports.ts';
import { beginRun, type Extent, getExtent } from './book.ts';
import type { JudgedBy } from './judge.ts';
import {
  type Difference,
  type Progress,
  type ReconcileRequest,
  type ReconciliationAnswer,
  STAGES,
  type StageName,
} from './reconcile.types.ts';
import { STRIPE_STAGES } from './stripePages.ts';

/** A run in the hands of one process: how it begins, what it is to compare, and how it ends. */

/** Younger objects are left to their events, which come within seconds. */
const AGE_MIN_SECONDS = 300;
/** The first run looks back so far, and never to before the ledger began. */
const FIRST_RUN_DAYS = 30;
/** Renewed with each page; a page takes seconds, also while Stripe makes us wait. */
const LEASE_SECONDS = 120;
const DAY_SECONDS = 86_400;

/** A run as this process works on it. */
export interface Work {
  /** Null: a dry run. */
  lease: { id: string; fence: number; leaseSeconds: number } | null;
  by: JudgedBy;
  since: string | null;
  /** Unix seconds. */
  until: number;
  extent: Extent;
  progress: Progress;
  /** Kept in memory by a dry run alone. */
  seen: Set<string> | null;
  objects: number;
  /** Calls of this run before this process took it up. */
  callsBefore: number;
  counts: { findings: number; repaired: number; still_open: number };
  differences: Difference[];
  failures: number;
}

export async function beginWork(
  deps: { db: Database; clock: Clock },
  {
    since,
    dry_run: dryRun = false,
    resumeOnly = false,
  }: ReconcileRequest & { resumeOnly?: boolean },
  actor: string,
): Promise<Work | ReconciliationAnswer> {
  const until = Math.floor(deps.clock.now().getTime() / 1000) - AGE_MIN_SECONDS;
  const common = {
    objects: 0,
    callsBefore: 0,
    counts: { findings: 0, repaired: 0, still_open: 0 },
    differences: [],
    failures: 0,
  };
  if (dryRun) {
    const extent = await getExtent(deps.db);
    refuseForeignPast(extent, since);
    return {
      ...common,
      lease: null,
      by: { runId: null, actor, reason: null, dryRun, foreseen: new Set(), unassigned: new Set() },
      since: since ?? null,
      until,
      extent,
      progress: { stage: null, after: null, stages: {} },
      seen: new Set(),
    };
  }
  if (since !== undefined) refuseForeignPast(await getExtent(deps.db), since);
  const begun = await beginRun(deps.db, {
    until: iso(until),
    since,
    actor,
    leaseSeconds: LEASE_SECONDS,
    holder: randomUUID(),
    resumeOnly,
  });
  if (begun.outcome === 'nothing_to_resume') return nothingDone('nothing_to_resume');
  const { run, fence } = begun;
  if (begun.outcome === 'busy') return { ...nothingDone('busy'), run_id: run?.id ?? null };
  return {
    ...common,
    lease: { id: run.id, fence, leaseSeconds: LEASE_SECONDS },
    by: { runId: run.id, actor, reason: null, dryRun, foreseen: new Set(), unassigned: new Set() },
    since: run.since,
    until: Math.floor(Date.parse(run.compared_until) / 1000),
    extent: begun,
    progress: {
      stage: run.progress.stage ?? null,
      after: run.progress.after ?? null,
      stages: run.progress.stages ?? {},
    },
    seen: null,
    objects: run.objects,
    callsBefore: run.stripe_calls,
    counts: { findings: run.findings, repaired: run.repaired, still_open: run.still_open },
  };
}

/** What an older system sold is in the opening balances; granting it again would double it. */
function refuseForeignPast({ began, opening_balances }: Extent, since: string | undefined): void {
  if (since === undefined || !opening_balances || Date.parse(since) >= Date.parse(began)) return;
  throw new PurserError('invalid_request', {
    detail: `This ledger began on ${began} with the balances your users had then. What was sold before is in them, and would be credited twice.`,
    extensions: { errors: [{ path: 'since', message: `must not be before ${began}` }] },
  });
}

/** Unix seconds. */
export function fromOf(work: Work, stage: StageName): number {
  if (work.since !== null) return seconds(work.since);
  const cursor = work.extent.cursors[stage];
  return cursor === undefined ? firstFrom(work) : Math.min(seconds(cursor.position), work.until);
}

function firstFrom({ extent, until }: Work): number {
  return Math.min(Math.max(seconds(extent.began), until - FIRST_RUN_DAYS * DAY_SECONDS), until);
}

/** Whether it leaves nothing out between what was compared before and its end. */
export function isGapless(work: Work): boolean {
  return STAGES.every((stage) => {
    const cursor = work.extent.cursors[stage];
    return fromOf(work, stage) <= (cursor ? seconds(cursor.position) : firstFrom(work));
  });
}

/**
 * Where the next run begins: at the oldest object that may still change. A run since a later time
 * than the cursor leaves a gap, and moves nothing.
 */
export function cursorsAfter(work: Work, stage: StageName, from: number, unsettled: number | null) {
  const cursor = work.extent.cursors[stage];
  if (from > (cursor === undefined ? firstFrom(work) : seconds(cursor.position))) return [];
  const late = (STRIPE_STAGES[stage]?.lateDays ?? 0) * DAY_SECONDS;
  const position = Math.max(work.until - late, Math.min(work.until, unsettled ?? work.until));
  return [{ name: stage, position: iso(position), compared_until: iso(work.until) }];
}

export function answerOf(work: Work, calls: number, paused: string | null): ReconciliationAnswer {
  return {
    outcome: paused === null ? 'done' : 'paused',
    dry_run: work.lease === null,
    run_id: work.lease?.id ?? null,
    since: work.since,
    compared_until: iso(work.until),
    progress: work.progress,
    objects: work.objects,
    stripe_calls: work.callsBefore + calls,
    ...work.counts,
    paused_because: paused,
    differences: work.differences,
  };
}

function nothingDone(outcome: 'busy' | 'nothing_to_resume'): ReconciliationAnswer {
  return {
    outcome,
    dry_run: false,
    run_id: null,
    since: null,
    compared_until: null,
    progress: null,
    objects: 0,
    stripe_calls: 0,
    findings: 0,
    repaired: 0,
    still_open: 0,
    paused_because: null,
    differences: [],
  };
}

export function seconds(time: string): number {
  return Math.floor(Date.parse(time) / 1000);
}

export function iso(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toISOString();
}
