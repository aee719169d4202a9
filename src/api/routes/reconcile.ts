import {
  checkUser,
  fixUser,
  getFinding,
  getReconciliation,
  getReconciliationState,
  listFindings,
  listReconciliations,
  reconcileStripe,
  resolveFinding,
} from '../contract/reconcile.ts';
import { defineRoute } from '../defineRoute.ts';

/** Of one request: platforms give it 60 seconds, and a page may take a few after the word to stop. */
const REQUEST_MS_MAX = 20_000;

export const reconcileRoutes = [
  defineRoute(reconcileStripe, async ({ reconcile, clock }, { body, caller }) => {
    const endsAt = clock.now().getTime() + REQUEST_MS_MAX;
    return {
      body: await reconcile.run(body, caller.actor, () => clock.now().getTime() >= endsAt),
    };
  }),

  defineRoute(getReconciliationState, async ({ reconcile }, { query }) => ({
    body: await reconcile.state(query.user_id),
  })),

  defineRoute(listReconciliations, async ({ reconcile }) => ({
    body: { data: await reconcile.runs() },
  })),

  defineRoute(getReconciliation, async ({ reconcile }, { params }) => ({
    body: await reconcile.getRun(params.runId),
  })),

  defineRoute(listFindings, async ({ reconcile }, { query }) => ({
    body: await reconcile.findings(query),
  })),

  defineRoute(getFinding, async ({ reconcile }, { params }) => ({
    body: await reconcile.getFinding(params.findingId),
  })),

  defineRoute(resolveFinding, async ({ reconcile }, { params, body, caller }) => ({
    body: await reconcile.resolveFinding(params.findingId, body.reason, caller.actor),
  })),

  defineRoute(checkUser, async ({ reconcile }, { params }) => ({
    body: await reconcile.checkUser(params.userId),
  })),

  defineRoute(fixUser, async ({ reconcile }, { params, body, caller }) => ({
    body: await reconcile.fixUser(params.userId, body, caller.actor),
  })),
];
