import type { Context } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { changedAttributes, emit } from '../events.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listRows, matchesFilter } from '../listing.ts';
import {
  clearable,
  expand,
  flag,
  metadata,
  object,
  type Parsed,
  paging,
  range,
  refused,
  text,
} from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { charges, disputes, paymentIntents } from '../tables.ts';
import { schedule, type TaskHandlers, unschedule } from '../tasks.ts';
import { moveMoney } from './balanceTransactions.ts';
import {
  DISPUTE_MOVES,
  type DisputeStatus,
  type DisputeView,
  EVIDENCE_FILES,
  EVIDENCE_TEXTS,
} from './disputeView.ts';
import { applyMetadata } from './fields.ts';

/** While it is in one of these the bank has the money. */
const HOLDING: ReadonlySet<DisputeStatus> = new Set([
  'needs_response',
  'under_review',
  'lost',
  'appeal_needs_response',
  'appeal_under_review',
]);
const CLOSED: ReadonlySet<DisputeStatus> = new Set(['won', 'lost', 'warning_closed']);

export function holdsMoney(status: DisputeStatus): boolean {
  return HOLDING.has(status);
}

export function findDispute(ctx: Context, id: string): DisputeView {
  const found = ctx.store.get(disputes, id);
  if (!found) throw noSuch('dispute', id, 'id', 404);
  return found.view;
}

export function disputesOf(ctx: Context, charge: string): DisputeView[] {
  return ctx.store.lookUp(disputes, 'charge', charge).map(({ view }) => view);
}

/** What the bank took back cannot be given back a second time. */
export function refundableDespiteDisputes(ctx: Context, charge: string): boolean {
  return disputesOf(ctx, charge).every(({ status }) => !holdsMoney(status));
}

/** Nothing is left to ask for once the whole charge is refunded. */
export function closeInquiries(ctx: Context, charge: string): void {
  for (const { id, status } of disputesOf(ctx, charge)) {
    if (status === 'warning_needs_response' || status === 'warning_under_review') {
      moveDispute(ctx, id, 'warning_closed');
    }
  }
}

/** Takes the disputed amount, or gives it back, and writes it into the dispute. */
export function moveDisputedMoney(
  ctx: Context,
  dispute: DisputeView,
  kind: 'dispute' | 'dispute_reversal',
): DisputeView {
  const money = moveMoney(ctx, kind, {
    amount: kind === 'dispute' ? -dispute.amount : dispute.amount,
    currency: dispute.currency,
    source: dispute.id,
    description: `${kind === 'dispute' ? 'Chargeback withdrawal' : 'Chargeback reversal'} for ${dispute.charge}`,
  });
  return ctx.store.patch(disputes, dispute.id, {
    balance_transactions: [...dispute.balance_transactions, money],
  }).view;
}

/**
 * The only way a dispute changes its status. Money moves with it, and both are told.
 * @throws ApiError 400 when Stripe knows no such move.
 */
export function moveDispute(ctx: Context, id: string, to: DisputeStatus): DisputeView {
  const before = findDispute(ctx, id);
  const moves: readonly string[] = DISPUTE_MOVES[before.status];
  if (!moves.includes(to)) {
    throw badRequest(
      `Dispute ${id} is ${before.status} and cannot become ${to}${moves.length > 0 ? `, only ${moves.join(' or ')}` : '; it is over'}.`,
      { code: 'dispute_unexpected_state' },
    );
  }
  unschedule(ctx, 'end_dispute', id);
  const open = to === 'needs_response' || to === 'appeal_needs_response';
  let { view } = ctx.store.patch(disputes, id, {
    status: to,
    is_charge_refundable: to === 'warning_under_review',
    ...(before.payment_method_details && to === 'needs_response'
      ? {
          payment_method_details: {
            ...before.payment_method_details,
            card: { ...before.payment_method_details.card, case_type: 'chargeback' as const },
          },
        }
      : {}),
  });
  const withdrawn = holdsMoney(to) && !holdsMoney(before.status);
  const reinstated = holdsMoney(before.status) && !holdsMoney(to);
  if (withdrawn) view = moveDisputedMoney(ctx, view, 'dispute');
  if (reinstated) view = moveDisputedMoney(ctx, view, 'dispute_reversal');
  if (open) scheduleDeadline(ctx, view);
  if (CLOSED.has(to)) emit(ctx, 'charge.dispute.closed', view);
  else emit(ctx, 'charge.dispute.updated', view, changedAttributes(before, view) ?? {});
  if (withdrawn) emit(ctx, 'charge.dispute.funds_withdrawn', view);
  if (reinstated) emit(ctx, 'charge.dispute.funds_reinstated', view);
  return view;
}

/** Who does not answer in time loses; an inquiry is closed. */
export function scheduleDeadline(ctx: Context, { id, evidence_details }: DisputeView): void {
  if (evidence_details.due_by === null) return;
  const dueAt = Math.max(evidence_details.due_by * 1_000, ctx.now() + 1_000);
  schedule(ctx, 'end_dispute', id, dueAt);
}

/** Stripe's texts of evidence that decide a dispute of test mode. */
const VERDICTS: Readonly<Record<string, DisputeStatus>> = {
  winning_evidence: 'won',
  losing_evidence: 'lost',
  escalate_inquiry_evidence: 'needs_response',
};

function verdictOf({ status, evidence }: DisputeView): DisputeStatus | null {
  const verdict = VERDICTS[evidence.uncategorized_text ?? ''];
  const moves: readonly string[] = DISPUTE_MOVES[status];
  if (verdict !== undefined && moves.includes(verdict)) return verdict;
  return status === 'warning_under_review' ? 'warning_closed' : null;
}

export const disputeTasks = {
  end_dispute: (ctx, id) => {
    const dispute = findDispute(ctx, id);
    if (dispute.status === 'under_review' || dispute.status === 'warning_under_review') {
      moveDispute(ctx, id, verdictOf(dispute) ?? 'lost');
      return;
    }
    ctx.store.patch(disputes, id, {
      evidence_details: { ...dispute.evidence_details, past_due: true },
    });
    moveDispute(ctx, id, dispute.status === 'warning_needs_response' ? 'warning_closed' : 'lost');
  },
} satisfies Partial<TaskHandlers>;

const evidence = object({
  ...(Object.fromEntries(EVIDENCE_TEXTS.map((name) => [name, clearable(text(20_000))])) as Record<
    (typeof EVIDENCE_TEXTS)[number],
    ReturnType<typeof clearable<string>>
  >),
  ...(Object.fromEntries(
    EVIDENCE_FILES.map((name) => [name, refused('files of evidence; use a text')]),
  ) as Record<(typeof EVIDENCE_FILES)[number], ReturnType<typeof refused>>),
  appeal: refused('an appeal is opened by the control API and answered with `submit`'),
  enhanced_evidence: refused(),
});
const updateParams = {
  evidence,
  expand,
  intended_submission_method: refused(),
  metadata,
  submit: flag,
};

const ANSWERED = {
  needs_response: 'under_review',
  warning_needs_response: 'warning_under_review',
  appeal_needs_response: 'appeal_under_review',
} as const;

function isAnswerable(status: DisputeStatus): status is keyof typeof ANSWERED {
  return Object.hasOwn(ANSWERED, status);
}

function updateDispute(ctx: Context, id: string, given: Parsed<typeof updateParams>): DisputeView {
  const before = findDispute(ctx, id);
  const texts = Object.fromEntries(
    Object.entries(given.evidence ?? {}).filter(([, value]) => value !== undefined),
  );
  if (given.evidence !== undefined && !isAnswerable(before.status)) {
    throw badRequest(`Dispute ${id} is ${before.status}: evidence can no longer be given.`, {
      param: 'evidence',
      code: 'dispute_unexpected_state',
    });
  }
  const evidenceNow = { ...before.evidence, ...texts };
  const { view } = ctx.store.patch(disputes, id, {
    evidence: evidenceNow,
    evidence_details: {
      ...before.evidence_details,
      has_evidence: EVIDENCE_TEXTS.some((name) => evidenceNow[name] !== null),
    },
    metadata: applyMetadata(before.metadata, given.metadata),
  });
  // Stripe submits at once unless told to stage only.
  const submits = given.submit ?? given.evidence !== undefined;
  if (submits && isAnswerable(before.status)) return submit(ctx, view, ANSWERED[before.status]);
  const previous = changedAttributes(before, view);
  if (previous) emit(ctx, 'charge.dispute.updated', view, previous);
  return view;
}

function submit(ctx: Context, dispute: DisputeView, to: DisputeStatus): DisputeView {
  const { evidence_details } = dispute;
  ctx.store.patch(disputes, dispute.id, {
    evidence_details: {
      ...evidence_details,
      submission_count: evidence_details.submission_count + 1,
      submission_method: 'manual',
    },
  });
  const view = moveDispute(ctx, dispute.id, to);
  // Without one of the texts the bank keeps thinking until the control API tells its decision.
  if (verdictOf(view)) schedule(ctx, 'end_dispute', view.id, ctx.now() + ctx.settleDelayMs);
  return view;
}

export const disputeExpandable: Expandable = {
  charge: (ctx, view) => ctx.store.get(charges, String(view.charge))?.view,
  payment_intent: (ctx, view) => ctx.store.get(paymentIntents, String(view.payment_intent))?.view,
};

const listParams = { ...paging, charge: text(), created: range, payment_intent: text() };

export const disputeRoutes: Route[] = [
  route('GET', '/v1/disputes', listParams, (ctx, filter) =>
    listRows(
      ctx,
      disputes,
      '/v1/disputes',
      filter,
      ({ view }) =>
        matchesFilter(filter.charge, view.charge) &&
        matchesFilter(filter.payment_intent, view.payment_intent) &&
        inRange(view.created, filter.created),
    ),
  ),
  route('GET', '/v1/disputes/:id', { expand }, (ctx, _params, ids) => findDispute(ctx, idOf(ids))),
  route('POST', '/v1/disputes/:id', updateParams, (ctx, given, ids) =>
    updateDispute(ctx, idOf(ids), given),
  ),
  // The seller accepts: closing is losing, and cannot be taken back.
  route('POST', '/v1/disputes/:id/close', { expand }, (ctx, _params, ids) => {
    const { id, status } = findDispute(ctx, idOf(ids));
    return moveDispute(ctx, id, status.startsWith('warning_') ? 'warning_closed' : 'lost');
  }),
];
