import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { timestampSchema } from './primitives.ts';

const countSchema = z.number().int().nonnegative();

const paceSchema = z
  .object({
    every_seconds: countSchema,
    weekday: z.number().int().min(0).max(6).optional().meta({ description: '0 = Sunday.' }),
    day: z.number().int().min(1).max(28).optional().meta({ description: 'Day of the month.' }),
    hour: z.number().int().min(0).max(23).optional().meta({ description: 'Hour in UTC.' }),
  })
  .meta({
    description:
      'Each so many seconds; with `hour`, at that hour of the weekday or day, and `every_seconds` is how often it is looked at.',
  });

const jobStateSchema = z
  .object({
    name: z.string(),
    pace: paceSchema.nullable(),
    per_process: z.boolean().meta({
      description: 'It works on a process’ own memory; what stands here is this process’.',
    }),
    running: z.boolean(),
    due: z.boolean().meta({ description: 'Its time has come, and nobody runs it.' }),
    overdue: z.boolean().meta({
      description:
        'Due for twice its pace, at least 5 minutes (an hour with a calendar): nobody takes it up.',
    }),
    lost: z.boolean().meta({
      description: 'Whoever ran it last has died in the middle; the next run goes on.',
    }),
    progress: z.unknown().meta({ description: 'What the run under way has done so far.' }),
    last_started_at: timestampSchema.nullable(),
    last_finished_at: timestampSchema.nullable(),
    last_outcome: z.enum(['done', 'failed', 'lost']).nullable(),
    last_result: z.record(z.string(), z.unknown()).nullable(),
    last_success_at: timestampSchema.nullable(),
    next_run_at: timestampSchema.nullable(),
    runs: countSchema,
    failures: countSchema,
    failures_in_row: countSchema,
  })
  .meta({ id: 'JobState' });

export const listJobs = declareRoute({
  id: 'listJobs',
  method: 'get',
  path: '/api/admin/jobs',
  tag: 'Admin',
  summary: 'Every job with its pace, its last run and its next',
  description:
    'Jobs are run by servers, by cron calls and by pg_cron; what stands here is of all of them.',
  auth: 'admin',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The jobs.',
      body: z
        .object({ as_of: timestampSchema, data: z.array(jobStateSchema) })
        .meta({ id: 'JobList' }),
    },
  },
  errors: ['dependency_down'],
});
