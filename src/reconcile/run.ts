import { randomUUID } from 'node:crypto';
import { isRetryable, PurserError } from '../core/errors.ts';
import { beginRun, type Extent, getExtent, saveRun } from './book.ts';
import type { Suspect } from './compare.ts';
import { type JudgedBy, judge, leaveFailed } from './judge.ts';
import { type LedgerSpan, readGrants, readUnlistedSubscriptions } from './ledgerPages.ts';
import { politely, type StripeMeter } from './meter.ts';
import { compareMirrors, type MirrorDeps } from './mirrorPages.ts';
import {
  DIFFERENCES,
  type Difference,
  type Progress,
  type ReconcileRequest,
  type ReconciliationAnswer,
  STAGES,
  type StageName,
  type StageProgress,
} from './reconcile.types.ts';
import {
  type ComparedPage,
  type ReadPage,
  readDisputes,
  readInvoices,
  readRefunds,
  readSessions,
  readSubscriptions,
} from './stripePages.ts';

/** Younger objects are left to their events, which come within seconds. */
const AGE_MIN_SECONDS = 300;
/** The first run looks back so far, and never to before the ledger began. */
const FIRST_RUN_DAYS = 30;
/** Renewed with each page; a page takes seconds, also while Stripe makes us wait. */
const LEASE_SECONDS = 120;
/** Of one call of `run`: what is left is the next call's. At 25 requests a second some 3 minutes. */
const STRIPE_CALLS_MAX = 5_000;
const DIFFERENCES_SHOWN_MAX = 200;
/** So many objects in a row that Stripe does not answer for: it is Stripe, not they. */
const FAILURES_MAX = 3;
const DAY_SECONDS = 86_400;

interface StripeStage {
  read: ReadPage;
  /** How long after its making an object may still change; older ones hold no cursor back. */
  lateDays: number;
  /** What findings about its objects are called by. */
  subject: string;
}

const STRIPE_STAGES: Readonly<Partial<Record<StageName, StripeStage>>> = {
  sessions: { read: readSessions, lateDays: 30, subject: 'checkout:' },
  invoices: { read: readInvoices, lateDays: 60, subject: 'invoice:' },
  refunds: { read: readRefunds, lateDays: 35, subject: 'payment:' },
  disputes: { read: readDisputes, lateDays: 120, subject: 'payment:' },
  subscriptions: { read: readSubscriptions, lateDays: 0, subject: 'subscription:' },
};

export interface RunDeps extends MirrorDeps {
  /** Whether our key is a live one. */
  livemode: boolean;
  meter: StripeMeter;
}

/** A run as this process works on it. */
interface Work {
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

/** Somebody else works on the run by now, so nothing more of it is ours. */
class LeaseLost extends Error {}

export async function runReconciliation(
  deps: RunDeps,
  request: ReconcileRequest & { resumeOnly?: boolean },
  actor: string,
  shouldStop: () => boolean,
): Promise<ReconciliationAnswer> {
  return deps.meter.count(async (calls) => {
    const work = await begin(deps, request, actor);
    if (!('lease' in work)) return work;
    let paused: string | null = null;
    try {
      paused = await walk(deps, work, calls, shouldStop);
      await finish(deps, work, calls(), paused);
    } catch (error) {
      if (error instanceof LeaseLost) {
        paused = 'another process has taken the run over';
      } else {
        const message = error instanceof Error ? error.message : String(error);
        await finish(deps, work, calls(), message);
        if (!isRetryable(error)) throw error;
        deps.logger.warn('Reconciliation is interrupted and goes on later', { error });
        paused = message;
      }
    }
    return answerOf(work, calls(), paused);
  });
}

async function begin(
  deps: RunDeps,
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
      by: { runId: null, actor, reason: null, dryRun, foreseen: new Set() },
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
    by: { runId: run.id, actor, reason: null, dryRun, foreseen: new Set() },
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

/** Null: everything is compared. Else why it stopped before. */
async function walk(
  deps: RunDeps,
  work: Work,
  calls: () => number,
  shouldStop: () => boolean,
): Promise<string | null> {
  const first = work.progress.stage === null ? 0 : STAGES.indexOf(work.progress.stage);
  for (const stage of STAGES.slice(first)) {
    if (work.progress.stage !== stage) work.progress = { ...work.progress, stage, after: null };
    const from = fromOf(work, stage);
    for (let more = true; more; ) {
      if (shouldStop()) return 'time';
      if (calls() >= STRIPE_CALLS_MAX) return 'calls';
      const { page, failed } = await readPage(deps, work, stage, from, shouldStop);
      const fine = fineOf(stage, page, failed);
      more = page.next !== null;
      const before = work.progress.stages[stage];
      const unsettled = oldest(
        before?.oldest_unsettled,
        page.oldestUnsettled,
        ...openTimes(failed),
      );
      const progress: StageProgress = {
        from: iso(from),
        pages: (before?.pages ?? 0) + 1,
        objects: (before?.objects ?? 0) + page.objects,
        oldest_unsettled: unsettled === null ? null : iso(unsettled),
        done: !more,
      };
      work.objects += page.objects;
      work.progress = {
        stage,
        after: page.next,
        stages: { ...work.progress.stages, [stage]: progress },
      };
      for (const id of page.seen) work.seen?.add(id);
      await save(deps, work, calls(), {
        seen: page.seen,
        fine,
        cursors: more ? [] : cursorsAfter(work, stage, from, unsettled),
      });
    }
  }
  return null;
}

/** One page, compared and judged; `failed` are the suspects that are not over. */
async function readPage(
  deps: RunDeps,
  work: Work,
  stage: StageName,
  from: number,
  shouldStop: () => boolean,
): Promise<{ page: ComparedPage; failed: Suspect[] }> {
  const patience = { pause: deps.pause, shouldStop };
  const { after } = work.progress;
  if (stage === 'mirror') {
    const { users, differences, next } = await compareMirrors(deps, work.by, after);
    for (const difference of differences) note(work, difference);
    const page = { objects: users, suspects: [], seen: [], open: [], oldestUnsettled: null, next };
    return { page, failed: [] };
  }
  const span: LedgerSpan = {
    runId: work.lease?.id ?? null,
    from: iso(from),
    until: iso(work.until),
    after,
    seen: work.seen,
  };
  const stripeStage = STRIPE_STAGES[stage];
  const window = { from: stage === 'subscriptions' ? null : from, until: work.until };
  const page = await politely(patience, () =>
    stripeStage !== undefined
      ? stripeStage.read(deps, window, after)
      : stage === 'grants'
        ? readGrants(deps, span)
        : readUnlistedSubscriptions(deps, span),
  );
  const failed: Suspect[] = [];
  for (const suspect of page.suspects) {
    const difference = await politely(patience, () => judgeOrNote(deps, work, suspect));
    if (difference === null) continue;
    note(work, difference);
    if (difference.outcome === 'repaired') continue;
    // What a person has accepted holds no cursor back.
    const created = difference.outcome === 'accepted' ? null : suspect.created;
    failed.push({ ...suspect, code: difference.code, created });
  }
  return { page, failed };
}

/** One object that cannot be settled must not stand in the way of all others. */
async function judgeOrNote(
  deps: RunDeps,
  work: Work,
  suspect: Suspect,
): Promise<Difference | null> {
  try {
    const difference = await judge(deps, work.by, suspect);
    work.failures = 0;
    return difference;
  } catch (error) {
    const refused = error instanceof PurserError && isStatus(error.cause, 429);
    work.failures += 1;
    if (!(error instanceof PurserError) || refused || work.failures >= FAILURES_MAX) throw error;
    return leaveFailed(deps, work.by, suspect, error);
  }
}

function isStatus(cause: unknown, status: number): boolean {
  return cause instanceof Error && 'statusCode' in cause && cause.statusCode === status;
}

function note(work: Work, difference: Difference): void {
  const { outcome } = difference;
  if (outcome !== 'seen' && outcome !== 'accepted') work.counts.findings += 1;
  if (outcome === 'repaired') work.counts.repaired += 1;
  if (outcome === 'seen') work.counts.still_open += 1;
  if (work.differences.length < DIFFERENCES_SHOWN_MAX) work.differences.push(difference);
}

/** Open findings about objects of the page that have not been found again. */
function fineOf(
  stage: StageName,
  { open }: ComparedPage,
  failed: Suspect[],
): [code: string, subject: string][] {
  const prefix = STRIPE_STAGES[stage]?.subject;
  if (prefix === undefined) return [];
  const still = new Set(failed.map(({ code, subject }) => `${code} ${subject}`));
  const ours: readonly string[] = DIFFERENCES;
  return open.filter(
    ([code, subject]) =>
      ours.includes(code) && subject.startsWith(prefix) && !still.has(`${code} ${subject}`),
  );
}

/** Unix seconds. */
function fromOf(work: Work, stage: StageName): number {
  if (work.since !== null) return seconds(work.since);
  const cursor = work.extent.cursors[stage];
  return cursor === undefined ? firstFrom(work) : Math.min(seconds(cursor.position), work.until);
}

function firstFrom({ extent, until }: Work): number {
  return Math.min(Math.max(seconds(extent.began), until - FIRST_RUN_DAYS * DAY_SECONDS), until);
}

/**
 * Where the next run begins: at the oldest object that may still change. A run since a later time
 * than the cursor leaves a gap, and moves nothing.
 */
function cursorsAfter(work: Work, stage: StageName, from: number, unsettled: number | null) {
  const cursor = work.extent.cursors[stage];
  if (from > (cursor === undefined ? firstFrom(work) : seconds(cursor.position))) return [];
  const late = (STRIPE_STAGES[stage]?.lateDays ?? 0) * DAY_SECONDS;
  const position = Math.max(work.until - late, Math.min(work.until, unsettled ?? work.until));
  return [{ name: stage, position: iso(position), compared_until: iso(work.until) }];
}

async function save(
  deps: RunDeps,
  work: Work,
  calls: number,
  page: Omit<Parameters<typeof saveRun>[2], 'progress' | 'objects' | 'stripeCalls'>,
): Promise<void> {
  if (work.lease === null) return;
  const { outcome } = await saveRun(deps.db, work.lease, {
    progress: work.progress,
    objects: work.objects,
    stripeCalls: work.callsBefore + calls,
    ...page,
  });
  if (outcome === 'stale') throw new LeaseLost();
}

async function finish(
  deps: RunDeps,
  work: Work,
  calls: number,
  paused: string | null,
): Promise<void> {
  if (paused !== null) {
    await save(deps, work, calls, { end: 'released', error: paused });
    return;
  }
  const until = iso(work.until);
  const isGapless = STAGES.every((stage) => {
    const cursor = work.extent.cursors[stage];
    return fromOf(work, stage) <= (cursor ? seconds(cursor.position) : firstFrom(work));
  });
  const cursors = isGapless ? [{ name: 'all', position: until, compared_until: until }] : [];
  await save(deps, work, calls, { end: 'done', cursors });
  const { findings, repaired } = work.counts;
  if (findings > 0 && work.lease !== null) {
    deps.logger.warn(
      `Reconciliation found ${findings} differences and repaired ${repaired}; the others are in reconciliation_findings`,
      { run: work.lease.id, findings, repaired },
    );
  }
}

function answerOf(work: Work, calls: number, paused: string | null): ReconciliationAnswer {
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

function oldest(text: string | null | undefined, ...others: (number | null)[]): number | null {
  const times = [text == null ? null : seconds(text), ...others].filter((time) => time !== null);
  return times.length === 0 ? null : Math.min(...times);
}

const openTimes = (failed: Suspect[]) => failed.map(({ created }) => created);

function seconds(time: string): number {
  return Math.floor(Date.parse(time) / 1000);
}

function iso(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toISOString();
}
