/**
 * The measuring loop of every bench. On a shared machine absolute rates wander by a factor of
 * several within minutes; two cases run back to back within one round see the same weather. So
 * cases take turns, the order rotates, and what counts is the median of same-round ratios.
 */
import { cpuMicros } from './cpu.ts';

/** Below five rounds a median says nothing. */
const ROUNDS_MIN = 5;
const ROUNDS_MAX = 100;

/** What one turn of a case did: how many operations, and optionally how long each took. */
export type Turn = number | { operations: number; latenciesMs: number[] };

export interface InterleaveOptions<Name extends string> {
  /** From ROUNDS_MIN to 100. */
  rounds: number;
  /** Unmeasured rounds before: connections, caches, compiled code. Default 1. */
  warmupRounds?: number;
  /** One turn each, of about the same length: a few hundred milliseconds to a few seconds. */
  cases: Record<Name, () => Promise<Turn>>;
  /** The case the others are compared with. Default: the first. */
  baseline?: NoInfer<Name>;
  /** Runs after each turn and outside of it: ends what the turn started, prepares the next. */
  between?: () => Promise<void>;
  /** Processes whose CPU time counts besides this one, with all their descendants. */
  pids?: () => number[];
  /** Stand-ins for the clocks, for the test of this very function. */
  nowMs?: () => number;
  cpuUs?: (pids: number[]) => number;
}

export interface Spread {
  median: number;
  min: number;
  max: number;
}

export interface CaseResult {
  operations: number;
  /** Operations a second. */
  rate: Spread;
  /** Microseconds of CPU per operation, of all processes that were named. */
  cpuUsPerOp: Spread;
  /** Over all rounds; absent when the case does not measure single operations. */
  latencyMs?: { p50: number; p99: number };
}

export interface RatioResult extends Spread {
  perRound: number[];
}

export interface Rounds<Name extends string = string> {
  rounds: number;
  baseline: Name;
  cases: Record<Name, CaseResult>;
  /** Rate of the case / rate of the baseline in the same round: above 1 is faster. */
  rateRatios: Record<Name, RatioResult>;
  /** CPU per operation of the case / that of the baseline: below 1 is cheaper. */
  cpuRatios: Record<Name, RatioResult>;
}

/** Nearest-rank quantile; `values` need not be sorted. NaN for none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  return Number.isInteger(middle) ? ((sorted[middle - 1] ?? Number.NaN) + upper) / 2 : upper;
}

function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

interface Sample {
  operations: number;
  rate: number;
  cpuUsPerOp: number;
  latenciesMs: number[];
}

/**
 * Runs the cases in turns and compares them. A case that throws, or does nothing, ends the bench:
 * a number from a broken case is worse than none.
 */
export async function interleave<Name extends string>(
  options: InterleaveOptions<Name>,
): Promise<Rounds<Name>> {
  const { rounds, warmupRounds = 1, cases, between, pids = () => [] } = options;
  const { nowMs = () => performance.now(), cpuUs = cpuMicros } = options;
  const names = Object.keys(cases) as Name[];
  const baseline = options.baseline ?? names[0];
  if (baseline === undefined) throw new RangeError('interleave needs at least one case');
  if (!Number.isInteger(rounds) || rounds < ROUNDS_MIN || rounds > ROUNDS_MAX) {
    throw new RangeError(`rounds must be ${ROUNDS_MIN} to ${ROUNDS_MAX}, not ${rounds}`);
  }

  const takeTurn = async (name: Name): Promise<Sample> => {
    const cpuBefore = cpuUs(pids());
    const startedAt = nowMs();
    const turn = await cases[name]();
    const elapsedMs = nowMs() - startedAt;
    const cpu = cpuUs(pids()) - cpuBefore;
    const { operations, latenciesMs } =
      typeof turn === 'number' ? { operations: turn, latenciesMs: [] } : turn;
    if (!(operations > 0)) throw new Error(`case "${name}" did ${operations} operations`);
    const rate = (operations * 1000) / elapsedMs;
    return { operations, rate, cpuUsPerOp: cpu / operations, latenciesMs };
  };

  const samples = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Name,
    Sample[]
  >;
  for (let round = -warmupRounds; round < rounds; round += 1) {
    for (let turn = 0; turn < names.length; turn += 1) {
      // Rotated, so that no case always runs in the wake of the same other.
      const name = names[(turn + warmupRounds + round) % names.length] as Name;
      const sample = await takeTurn(name);
      await between?.();
      if (round >= 0) samples[name].push(sample);
    }
  }

  const each = <T>(of: (name: Name) => T) =>
    Object.fromEntries(names.map((name) => [name, of(name)])) as Record<Name, T>;
  const ratios = (of: (sample: Sample) => number) =>
    each((name) => {
      const base = samples[baseline].map(of);
      const perRound = samples[name].map((sample, round) => of(sample) / (base[round] ?? 0));
      return { ...spread(perRound), perRound };
    });
  return {
    rounds,
    baseline,
    cases: each((name) => summarize(samples[name])),
    rateRatios: ratios((sample) => sample.rate),
    cpuRatios: ratios((sample) => sample.cpuUsPerOp),
  };
}

function summarize(samples: Sample[]): CaseResult {
  const latencies = samples.flatMap((sample) => sample.latenciesMs);
  return {
    operations: samples.reduce((sum, sample) => sum + sample.operations, 0),
    rate: spread(samples.map((sample) => sample.rate)),
    cpuUsPerOp: spread(samples.map((sample) => sample.cpuUsPerOp)),
    ...(latencies.length > 0 && {
      latencyMs: { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) },
    }),
  };
}
