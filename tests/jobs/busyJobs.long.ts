import { expect, it } from '@jest/globals';
import { runBusyJobs } from './support/busyJobs.ts';

const SECONDS = 300;

it(`two servers and five callers for ${SECONDS} s, every job due all the time: none twice at once, no step skipped`, async () => {
  const busy = await runBusyJobs(SECONDS);
  try {
    process.stdout.write(`busy jobs: ${JSON.stringify(busy.told)}\n`);
    expect(busy.wrong).toEqual([]);
  } finally {
    await busy.close();
  }
}, 1_200_000);
