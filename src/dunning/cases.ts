import { PurserError } from '../core/errors.ts';
import type { Dunning, DunningCase, DunningDetail, DunningSummary } from './dunning.types.ts';
import { type DunningDeps, readAndDecide, stepOf } from './runDunning.ts';

/** Cases a preview asks Stripe about. */
const PREVIEW_DEFAULT = 20;

/** Dunning for admins; see sql/dunning_migration.sql for the rules. */
export function createDunning(deps: DunningDeps): Dunning {
  const { db, clock } = deps;
  return {
    summary: () => db.rpc<DunningSummary>('dunning_summary', { p_now: clock.now().toISOString() }),

    async list({ state, userId, cursor, limit }) {
      const page = await db.rpc<{
        data: DunningCase[];
        has_more: boolean;
        next_id: string | null;
      }>('list_dunning_cases', {
        p_state: state,
        p_user_id: userId,
        p_before_id: cursor === undefined ? undefined : idOfCursor(cursor),
        p_limit: limit,
      });
      return {
        data: page.data,
        has_more: page.has_more,
        next_cursor: page.next_id === null ? null : cursorOfId(page.next_id),
      };
    },

    async get(caseId) {
      const found = await db.rpc<
        | { outcome: 'not_found' }
        | ({ outcome: 'found'; case: DunningCase } & Pick<DunningDetail, 'history' | 'mails'>)
      >('get_dunning_case', { p_case_id: caseId });
      if (found.outcome === 'not_found') throw unknownCase(caseId);
      return { ...found.case, history: found.history, mails: found.mails };
    },

    async change(caseId, { action, reason, actor }) {
      const answer = await db.rpc<{
        outcome: 'applied' | 'unchanged' | 'not_found' | 'refused';
        case: DunningCase;
        detail?: string;
      }>(
        'change_dunning_case',
        {
          p_case_id: caseId,
          p_action: action,
          p_reason: reason,
          p_actor: actor,
          p_now: clock.now().toISOString(),
        },
        // `skip` skips one more each time.
        { idempotent: action !== 'skip' },
      );
      if (answer.outcome === 'not_found') throw unknownCase(caseId);
      if (answer.outcome === 'refused') {
        const canceling = answer.case.state === 'canceling';
        throw new PurserError(canceling ? 'in_progress' : 'invalid_request', {
          detail: `Case ${caseId} does not take "${action}". ${answer.detail}`,
        });
      }
      return answer.case;
    },

    async preview({ at, limit }) {
      const now = at === undefined ? clock.now() : new Date(at);
      const { cases } = await db.rpc<{ cases: DunningCase[] }>('claim_dunning_cases', {
        p_limit: limit ?? PREVIEW_DEFAULT,
        p_peek: true,
        p_now: now.toISOString(),
      });
      const previews = [];
      for (const dunning of cases) {
        const { case_id, user_id, invoice_id, subscription_id, due_at } = dunning;
        const step = stepOf(dunning);
        const known = { case_id, user_id, invoice_id, subscription_id, due_at, step };
        try {
          const { decision } = await readAndDecide(deps, dunning, now);
          previews.push({ ...known, decision, error: null });
        } catch (error) {
          if (!(error instanceof PurserError)) throw error;
          previews.push({ ...known, decision: null, error: error.message });
        }
      }
      return { at: now.toISOString(), cases: previews };
    },
  };
}

function unknownCase(caseId: string): PurserError {
  return new PurserError('not_found', { detail: `There is no dunning case ${caseId}.` });
}

/** Where the page ended, wrapped so that nobody builds one. */
function cursorOfId(id: string): string {
  return Buffer.from(JSON.stringify(['dunning', id])).toString('base64url');
}

function idOfCursor(cursor: string): string {
  try {
    const [kind, id] = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (kind === 'dunning' && typeof id === 'string' && /^\d{1,18}$/.test(id)) return id;
  } catch {
    // Answered below: whatever it is, it is no cursor of this list.
  }
  throw new PurserError('invalid_request', {
    detail: 'cursor is not one of ours; use next_cursor of the page before.',
    extensions: { errors: [{ path: 'cursor', message: 'is not a cursor of this list' }] },
  });
}
