import { listJobs } from '../contract/jobs.ts';
import { receiveStripeWebhook, runCronJob, runDueJobs, runJob } from '../contract/operations.ts';
import { defineRoute } from '../defineRoute.ts';

export const operationRoutes = [
  defineRoute(receiveStripeWebhook, async ({ webhook }, { request, headers }) => ({
    // The mounting code has read the raw bytes: `auth: 'webhook'` says so.
    body: await webhook.receive(request.body as Buffer, headers['stripe-signature']),
  })),

  defineRoute(runDueJobs, async ({ jobs }) => ({ body: { runs: await jobs.tick() } })),

  defineRoute(runCronJob, async ({ jobs }, { caller, params }) => ({
    body: await jobs.run(params.job, caller.actor),
  })),

  defineRoute(listJobs, async ({ jobs }) => {
    const { as_of, jobs: data } = await jobs.list();
    return { body: { as_of, data } };
  }),

  defineRoute(runJob, async ({ jobs }, { caller, params }) => ({
    body: await jobs.run(params.job, caller.actor),
  })),
];
