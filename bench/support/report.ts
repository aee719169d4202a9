/** Prints what a bench found and keeps it as JSON, with the machine it was found on. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, platform, release, totalmem } from 'node:os';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COUNTS_OTHER_PROCESSES } from './cpu.ts';
import type { Rounds } from './rounds.ts';

const RESULTS = fileURLToPath(new URL('../results/', import.meta.url));

/** A floor or ceiling for one median of same-round ratios. */
export interface Goal<Name extends string> {
  case: Name;
  measure: 'rate' | 'cpu';
  /** The ratio must not be below this; use for `rate`. */
  atLeast?: number;
  /** The ratio must not be above this; use for `cpu`. */
  atMost?: number;
}

export interface BenchReport<Name extends string> {
  /** `import.meta.url` of the bench: names the result. */
  url: string;
  /** The one sentence this bench proves or refutes. */
  claim: string;
  /** What one operation is: 'event', 'consume'. */
  operation: string;
  result: Rounds<Name>;
  goals?: Goal<Name>[];
  /** Further numbers worth keeping, such as bytes a row or a version. */
  notes?: Record<string, string | number>;
}

function machineText(): string {
  const memoryGb = Math.round(totalmem() / 1024 ** 3);
  const load = loadavg().map((value) => value.toFixed(1));
  return (
    `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${memoryGb} GB, ` +
    `${platform()} ${release()}, Node ${process.version}, load ${load.join(' ')}`
  );
}

const short = (value: number): string =>
  Math.abs(value) >= 100 ? String(Math.round(value)) : value.toPrecision(3);

function formatTable(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return rows.map((row) => `  ${row.map(pad).join('  ').trimEnd()}`).join('\n');
}

function judge<Name extends string>(goal: Goal<Name>, result: Rounds<Name>) {
  const ratios = goal.measure === 'rate' ? result.rateRatios : result.cpuRatios;
  const value = ratios[goal.case].median;
  const { atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY } = goal;
  return { ...goal, value, met: value >= atLeast && value <= atMost };
}

/** Prints the table and writes `bench/results/<name>-<time>.json`, which git ignores. */
export function report<Name extends string>(bench: BenchReport<Name>): void {
  const { url, claim, operation, result, goals = [], notes = {} } = bench;
  const name = basename(fileURLToPath(url)).replace(/\.bench\.[jt]s$/, '');
  const names = Object.keys(result.cases) as Name[];
  const hasLatency = names.some((each) => result.cases[each].latencyMs !== undefined);
  const head = [operation, 'per s', '[min-max]', 'cpu us', 'rate ratio', '[min-max]', 'cpu ratio'];
  const rows = names.map((each) => {
    const { rate, cpuUsPerOp, latencyMs } = result.cases[each];
    const ratio = result.rateRatios[each];
    return [
      each,
      short(rate.median),
      `[${short(rate.min)}-${short(rate.max)}]`,
      short(cpuUsPerOp.median),
      ratio.median.toFixed(2),
      `[${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)}]`,
      result.cpuRatios[each].median.toFixed(2),
      ...(hasLatency
        ? [latencyMs ? `${short(latencyMs.p50)} / ${short(latencyMs.p99)}` : '-']
        : []),
    ];
  });
  const machine = machineText();
  const verdicts = goals.map((goal) => judge(goal, result));
  const lines = [
    `\n${name}: ${claim}`,
    `  ${result.rounds} rounds in turns; ratios are medians of same-round ratios to "${result.baseline}"`,
    formatTable([[...head, ...(hasLatency ? ['p50 / p99 ms'] : [])], ...rows]),
    ...Object.entries(notes).map(([key, value]) => `  ${key}: ${value}`),
    ...(COUNTS_OTHER_PROCESSES ? [] : ['  cpu: of this process only, no /proc here']),
  ];
  for (const verdict of verdicts) {
    const bounds = [
      ...(verdict.atLeast === undefined ? [] : [`at least ${verdict.atLeast}`]),
      ...(verdict.atMost === undefined ? [] : [`at most ${verdict.atMost}`]),
    ].join(' and ');
    const word = verdict.met ? 'met' : 'MISSED';
    lines.push(
      `  goal ${word}: ${verdict.measure} ratio of "${verdict.case}" is ` +
        `${verdict.value.toFixed(2)}, wanted ${bounds}`,
    );
  }
  console.log([...lines, `  ${machine}`].join('\n'));

  const measuredAt = new Date().toISOString();
  mkdirSync(RESULTS, { recursive: true });
  const path = `${RESULTS}${name}-${measuredAt.replace(/[:.]/g, '-')}.json`;
  const kept = { name, claim, operation, measuredAt, machine, goals: verdicts, notes, ...result };
  writeFileSync(path, `${JSON.stringify(kept, null, 2)}\n`);
}
