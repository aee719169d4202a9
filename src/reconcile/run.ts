import { isRetryable, PurserError } from '../core/errors.ts';
import { saveRun } from './book.ts';
import type { Suspect } from './compare.ts';
import { judge, leaveFailed } from './judge.ts';
import { type LedgerSpan, readGrants, readUnlistedSubscriptions } from './ledgerPages.ts';
import { politely, type StripeMeter } from './meter.ts';
import { compareMirrors, type MirrorDeps } from './mirrorPages.ts';
import {
  DIFFERENCES,
  type Difference,
  type ReconcileRequest,
  type ReconciliationAnswer,
  STAGES,
  type StageName,
  type StageProgress,
} from './reconcile.types.ts';
import { type ComparedPage, STRIPE_STAGES } from './stripePages.ts';
import {
  answerOf,
  beginWork,
  cursorsAfter,
  fromOf,
  isGapless,
  iso,
  seconds,
  type Work,
} from './work.ts';

/** Of one call of `run`: what is left is the next call's. At 25 requests a second some 3 minutes. */
const STRIPE_CALLS_MAX = 5_000;
const DIFFERENCES_SHOWN_MAX = 200;
/** After so many settlements in a page the lease is renewed: each takes seconds at the worst. */
const JUDGED_PER_LEASE = 10;
/** So many objects in a row that Stripe does not answer for: it is Stripe, not they. */
const FAILURES_MAX = 3;

export interface RunDeps extends MirrorDeps {
  /** Whether our key is a live one. */
  livemode: boolean;
  meter: StripeMeter;
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
    const work = await beginWork(deps, request, actor);
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

/** Null: everything is compared. Else why it stopped before. */
async function walk(
  deps: RunDeps,
  work: Work,
  calls: () => number,
  shouldStop: () => boolean,
): Promise<string | null> {
  const first = work.progress.stage === null ? 0 : STAGES.indexOf(work.progress.stage);
  for (const stage of STAGES.slice(first)) {
    // Its end was saved, and the process died before the next began.
    if (work.progress.stages[stage]?.done) continue;
    if (work.progress.stage !== stage) work.progress = { ...work.progress, stage, after: null };
    const from = fromOf(work, stage);
    for (let more = true; more; ) {
      if (shouldStop()) return 'time';
      if (calls() >= STRIPE_CALLS_MAX) return 'calls';
      const read = await readPage(deps, work, stage, { from, calls, shouldStop });
      if (read === null) return 'time';
      const { page, failed } = read;
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

/**
 * One page, compared and judged; `failed` are the suspects that are not over. Null: told to stop in
 * the middle; whoever goes on looks at the page again, and finds healed what was healed.
 */
async function readPage(
  deps: RunDeps,
  work: Work,
  stage: StageName,
  { from, calls, shouldStop }: { from: number; calls: () => number; shouldStop: () => boolean },
): Promise<{ page: ComparedPage; failed: Suspect[] } | null> {
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
  for (const [index, suspect] of page.suspects.entries()) {
    if (shouldStop()) return null;
    if (index % JUDGED_PER_LEASE === JUDGED_PER_LEASE - 1) await save(deps, work, calls(), {});
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
  const cursors = isGapless(work) ? [{ name: 'all', position: until, compared_until: until }] : [];
  await save(deps, work, calls, { end: 'done', cursors });
  const { findings, repaired } = work.counts;
  if (findings > 0 && work.lease !== null) {
    deps.logger.warn(
      `Reconciliation found ${findings} differences and repaired ${repaired}; the others are in reconciliation_findings`,
      { run: work.lease.id, findings, repaired },
    );
  }
}

function oldest(text: string | null | undefined, ...others: (number | null)[]): number | null {
  const times = [text == null ? null : seconds(text), ...others].filter((time) => time !== null);
  return times.length === 0 ? null : Math.min(...times);
}

const openTimes = (failed: Suspect[]) => failed.map(({ created }) => created);
