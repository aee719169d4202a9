import { expect, it } from '@jest/globals';
import { runBusyJobs } from './support/busyJobs.ts';

it('two servers and five callers, every job due all the time: none twice at once, no step skipped', async () => {
  const busy = await runBusyJobs(6);
  try {
    expect(busy.wrong).toEqual([]);
    expect(Object.keys(busy.told.runs as object).length).toBeGreaterThan(10);
  } finally {
    await busy.close();
  }
});
