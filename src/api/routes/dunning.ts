import {
  closeDunning,
  getDunningCase,
  getDunningSummary,
  listDunningCases,
  pauseDunning,
  previewDunning,
  resumeDunning,
  skipDunningStep,
} from '../contract/dunning.ts';
import { defineRoute } from '../defineRoute.ts';

export const dunningRoutes = [
  defineRoute(listDunningCases, async ({ dunning }, { query }) => ({
    body: await dunning.list({
      state: query.state,
      userId: query.user_id,
      cursor: query.cursor,
      limit: query.limit,
    }),
  })),

  defineRoute(getDunningSummary, async ({ dunning }) => ({ body: await dunning.summary() })),

  defineRoute(previewDunning, async ({ dunning }, { query }) => ({
    body: await dunning.preview(query),
  })),

  defineRoute(getDunningCase, async ({ dunning }, { params }) => ({
    body: await dunning.get(params.caseId),
  })),

  defineRoute(pauseDunning, async ({ dunning }, { params, body, caller }) => ({
    body: await dunning.change(params.caseId, {
      action: 'pause',
      reason: body.reason,
      actor: caller.actor,
    }),
  })),

  defineRoute(resumeDunning, async ({ dunning }, { params, body, caller }) => ({
    body: await dunning.change(params.caseId, {
      action: 'resume',
      reason: body.reason,
      actor: caller.actor,
    }),
  })),

  defineRoute(skipDunningStep, async ({ dunning }, { params, body, caller }) => ({
    body: await dunning.change(params.caseId, {
      action: 'skip',
      reason: body.reason,
      actor: caller.actor,
    }),
  })),

  defineRoute(closeDunning, async ({ dunning }, { params, body, caller }) => ({
    body: await dunning.change(params.caseId, {
      action: 'close',
      reason: body.reason,
      actor: caller.actor,
    }),
  })),
];
