import type { Job } from './job.ts';

/**
 * The run of a job that takes its work page by page until there is none left, or it is told to
 * stop; what is done is seen while it lasts. `word` names what is counted.
 */
export function pages(
  word: string,
  page: () => Promise<{ count: number; more: boolean }>,
): Job['run'] {
  return async (shouldStop, { report }) => {
    let total = 0;
    for (let more = true; more && !shouldStop(); ) {
      const done = await page();
      total += done.count;
      more = done.more;
      report({ [word]: total }, null);
    }
    return { [word]: total };
  };
}
