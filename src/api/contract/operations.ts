import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { jobNameSchema, timestampSchema } from './primitives.ts';

const jobRunSchema = z
  .object({
    job: z.string(),
    outcome: z
      .enum(['done', 'busy', 'failed'])
      .meta({ description: '`busy`: another process is running it, nothing was done.' }),
    started_at: timestampSchema,
    finished_at: timestampSchema,
    result: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'JobRun' });

export const receiveStripeWebhook = declareRoute({
  id: 'receiveStripeWebhook',
  method: 'post',
  path: '/api/webhooks/stripe',
  tag: 'Webhooks',
  summary: 'Stripe delivers its events here',
  description:
    'Answers 200 only after the event is committed; anything else makes Stripe send it again.',
  auth: 'webhook',
  headers: z.object({
    'stripe-signature': z
      .string()
      .optional()
      .meta({ description: 'Stripe’s signature over the raw body.' }),
  }),
  responses: {
    200: {
      description: 'The event is in the inbox.',
      body: z
        .object({ received: z.literal(true), duplicate: z.boolean() })
        .meta({ id: 'WebhookReceived' }),
    },
  },
  errors: [
    'invalid_signature',
    'payload_too_large',
    'unsupported_media_type',
    'overloaded',
    'dependency_down',
  ],
});

export const runDueJobs = declareRoute({
  id: 'runDueJobs',
  method: 'get',
  path: '/api/cron/tick',
  tag: 'Cron',
  summary: 'Run every job that is due',
  description:
    'For platforms without a process of their own. Each run is bounded; what is left is the next tick’s.',
  auth: 'cron',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'How each job ended.',
      body: z.object({ runs: z.array(jobRunSchema) }).meta({ id: 'CronTick' }),
    },
  },
  errors: ['dependency_down'],
});

export const runCronJob = declareRoute({
  id: 'runCronJob',
  method: 'get',
  path: '/api/cron/:job',
  tag: 'Cron',
  summary: 'Run one job',
  auth: 'cron',
  params: z.strictObject({ job: jobNameSchema }),
  query: z.strictObject({}),
  responses: { 200: { description: 'How it ended.', body: jobRunSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const runJob = declareRoute({
  id: 'runJob',
  method: 'post',
  path: '/api/admin/jobs/:job/run',
  tag: 'Admin',
  summary: 'Run a job now',
  auth: 'admin',
  params: z.strictObject({ job: jobNameSchema }),
  query: z.strictObject({}),
  body: z.strictObject({}),
  bodyOptional: true,
  responses: { 200: { description: 'How it ended.', body: jobRunSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const getMetrics = declareRoute({
  id: 'getMetrics',
  method: 'get',
  path: '/metrics',
  tag: 'Admin',
  summary: 'Counters and gauges for Prometheus',
  description:
    'What this process has seen, and what the tables say (the same in every process, read at most every 10 s). docs/metrics.md lists every series.',
  auth: 'metrics',
  responses: {
    200: {
      description: 'The text format of Prometheus.',
      contentType: 'text/plain; version=0.0.4; charset=utf-8',
    },
  },
  errors: [],
});

export const getHealth = declareRoute({
  id: 'getHealth',
  method: 'get',
  path: '/healthz',
  tag: 'Health',
  summary: 'Is the process alive?',
  auth: 'public',
  responses: {
    200: {
      description: 'Alive.',
      body: z.object({ status: z.literal('ok') }).meta({ id: 'Health' }),
    },
  },
  errors: [],
});

export const getReadiness = declareRoute({
  id: 'getReadiness',
  method: 'get',
  path: '/readyz',
  tag: 'Health',
  summary: 'May it be sent requests?',
  description: 'Ready needs the database and its schema; without Redis it is slower, not broken.',
  auth: 'public',
  responses: {
    200: {
      description: 'Ready.',
      body: z
        .object({
          status: z.literal('ready'),
          checks: z.object({
            database: z.literal('ok'),
            schema: z.literal('ok'),
            redis: z.enum(['ok', 'degraded']),
          }),
        })
        .meta({ id: 'Readiness' }),
    },
  },
  errors: ['dependency_down'],
});
