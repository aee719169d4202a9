import { spawn } from 'node:child_process';
import { describe, expect, it } from '@jest/globals';
import { COUNTS_OTHER_PROCESSES, cpuMicros } from '../../bench/support/cpu.ts';
import { interleave, median, quantile } from '../../bench/support/rounds.ts';

/** A machine whose speed differs in every round: only same-round ratios are steady on it. */
function weatherMachine() {
  let nowMs = 0;
  let cpuUs = 0;
  let turns = 0;
  const order: string[] = [];
  const work = (name: string, costMs: number) => async () => {
    const slowness = 1 + (Math.floor(turns / 2) % 4);
    turns += 1;
    order.push(name);
    nowMs += costMs * slowness;
    cpuUs += costMs * 100;
    return 10;
  };
  return { work, order, clocks: { nowMs: () => nowMs, cpuUs: () => cpuUs } };
}

describe('interleave', () => {
  it('compares within a round, so that the weather cancels out', async () => {
    const { work, clocks } = weatherMachine();
    const cases = { limit: work('limit', 10), ours: work('ours', 20) };
    const result = await interleave({ rounds: 8, cases, ...clocks });
    expect(result.baseline).toBe('limit');
    expect(result.rateRatios.ours.perRound).toEqual(Array(8).fill(0.5));
    expect(result.rateRatios.limit.median).toBe(1);
    expect(result.cpuRatios.ours.median).toBe(2);
    expect(result.cases.limit).toMatchObject({
      operations: 80,
      rate: { min: 250, max: 1000 },
      cpuUsPerOp: { median: 100 },
    });
  });

  it('lets the cases take turns in rotating order after the warm-up', async () => {
    const { work, order, clocks } = weatherMachine();
    const cases = { a: work('a', 1), b: work('b', 1), c: work('c', 1) };
    await interleave({ rounds: 5, cases, ...clocks });
    expect(order.join('')).toBe('abcbcacababcbcacab');
  });

  it('reports latencies where a case measures them', async () => {
    const latenciesMs = Array.from({ length: 100 }, (_, index) => index + 1);
    const timed = async () => ({ operations: 100, latenciesMs });
    const { cases } = await interleave({ rounds: 5, cases: { timed, plain: async () => 1 } });
    expect(cases.timed.latencyMs).toEqual({ p50: 50, p99: 99 });
    expect(cases.plain).not.toHaveProperty('latencyMs');
  });

  it('refuses too few rounds and a case that did nothing', async () => {
    const one = async () => 1;
    await expect(interleave({ rounds: 4, cases: { one } })).rejects.toThrow('rounds must be 5');
    const nothing = async () => 0;
    await expect(interleave({ rounds: 5, cases: { nothing } })).rejects.toThrow('did 0 operations');
  });
});

describe('median and quantile', () => {
  it('do not depend on the order of the values', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(quantile([30, 10, 20], 0.99)).toBe(30);
    expect(quantile([], 0.5)).toBeNaN();
  });
});

describe('cpuMicros', () => {
  it('counts a busy child process where the system tells', async () => {
    const busy = 'while (process.cpuUsage().user < 3e5) for (let i = 0; i < 1e6; i += 1);';
    const child = spawn(process.execPath, [
      '-e',
      `${busy} console.log("done"); setInterval(() => {}, 1e3);`,
    ]);
    try {
      await new Promise((done) => child.stdout.once('data', done));
      const withChild = cpuMicros([child.pid ?? 0]);
      const alone = cpuMicros();
      if (COUNTS_OTHER_PROCESSES) expect(withChild - alone).toBeGreaterThan(200_000);
      else expect(withChild).toBeLessThanOrEqual(alone);
    } finally {
      child.kill();
    }
  });
});
