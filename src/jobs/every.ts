import { Cron } from 'croner';
import type { Every } from './jobs.types.ts';

/** The clock of a long-running server. */
export const every: Every = (seconds, work) =>
  new Cron('* * * * * *', { interval: seconds, protect: true, unref: true }, work);
