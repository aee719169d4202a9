import type { AppDeps } from '../../../src/api/deps.ts';
import { PurserError } from '../../../src/core/errors.ts';
import type { DunningCase } from '../../../src/dunning/dunning.types.ts';

/** Dunning with one answer for each call; there is one case, number 1. */
export function dunningDomain(
  record: (name: string, ...args: unknown[]) => void,
): AppDeps['dunning'] {
  const at = '2026-11-21T10:00:00.000Z';
  const step = {
    step: 1,
    day: 0,
    action: 'mail' as const,
    urgency: 'first' as const,
    due_at: at,
    state: 'done' as const,
    done_at: at,
    note: null,
  };
  const known: DunningCase = {
    case_id: '1',
    user_id: 'u1',
    invoice_id: 'in_1',
    subscription_id: 'sub_1',
    customer_id: 'cus_1',
    state: 'open',
    resolution: null,
    failed_at: at,
    steps: [step],
    next_step: null,
    due_at: at,
    postponed_because: 'nothing_left',
    postponements: 0,
    plan_name: 'Individual',
    invoice_number: null,
    invoice_url: null,
    amount: 999,
    currency: 'usd',
    attempt_count: 1,
    next_payment_attempt: null,
    seen_at: at,
    failed_attempts: 0,
    error: null,
    paused_at: null,
    paid_at: null,
    ended_at: null,
    opened_at: at,
  };
  const find = (caseId: string) => {
    if (caseId === '1') return known;
    throw new PurserError('not_found', { detail: `There is no dunning case ${caseId}.` });
  };
  return {
    summary: async () => ({
      open: 1,
      paused: 0,
      canceling: 0,
      recovered: 0,
      canceled: 0,
      closed: 0,
      overdue_steps: 0,
      oldest_overdue_seconds: 0,
      failing_steps: 0,
      completion_rate: 0,
      recovery_rate: null,
    }),
    async list(filter) {
      record('listDunning', filter);
      return { data: [known], has_more: false, next_cursor: null };
    },
    get: async (caseId) => ({
      ...find(caseId),
      history: [
        {
          actor: 'stripe:evt_1',
          action: 'dunning_opened',
          reason: null,
          before: null,
          after: { state: 'open' },
          created_at: at,
        },
      ],
      mails: [
        { key: 'dunning:1:1', kind: 'payment_failed', status: 'sent', created_at: at, sent_at: at },
      ],
    }),
    async change(caseId, change) {
      record('changeDunning', caseId, change);
      return find(caseId);
    },
    async preview() {
      return {
        at,
        cases: [
          {
            case_id: '1',
            user_id: 'u1',
            invoice_id: 'in_1',
            subscription_id: 'sub_1',
            due_at: at,
            step: null,
            decision: { action: 'postpone', reason: 'nothing_left', until: at },
            error: null,
          },
        ],
      };
    },
  };
}
