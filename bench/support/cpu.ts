/**
 * CPU time spent, the steadiest measure on a shared machine: waiting does not count. This process
 * is read exactly; others from Linux's /proc in clock ticks of 10 ms, so a turn should last some
 * hundred milliseconds. Elsewhere only this process is counted, and the report says so.
 */
import { readdirSync, readFileSync } from 'node:fs';

export const COUNTS_OTHER_PROCESSES = process.platform === 'linux';

/** USER_HZ, which the kernel fixes at 100 for everything it shows in /proc. */
const TICK_US = 10_000;

interface ProcessTimes {
  pid: number;
  parent: number;
  /** User and system time of the process itself, in ticks. */
  own: number;
  /** That of its children that have ended and been waited for. */
  reaped: number;
}

function readTimes(pid: number | 'self'): ProcessTimes | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null; // ended between listing and reading: its parent has its time now
  }
  // The second field is the name in brackets, which may hold spaces and brackets.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const field = (index: number) => Number(fields[index] ?? 0);
  return {
    pid: Number(text.split(' ', 1)[0]),
    parent: field(1),
    own: field(11) + field(12),
    reaped: field(13) + field(14),
  };
}

/** CPU time in microseconds of this process, its ended children, and `pids` with descendants. */
export function cpuMicros(pids: readonly number[] = []): number {
  const { user, system } = process.cpuUsage();
  if (!COUNTS_OTHER_PROCESSES) return user + system;
  let ticks = readTimes('self')?.reaped ?? 0;
  if (pids.length > 0) {
    const all = readdirSync('/proc').flatMap((name) => {
      const times = /^\d+$/.test(name) ? readTimes(Number(name)) : null;
      return times ?? [];
    });
    const wanted = new Set(pids);
    // Parents may come after their children in the listing, so repeat until nothing is added.
    for (let size = -1; size !== wanted.size; ) {
      size = wanted.size;
      for (const { pid, parent } of all) if (wanted.has(parent)) wanted.add(pid);
    }
    for (const { pid, own, reaped } of all) if (wanted.has(pid)) ticks += own + reaped;
  }
  return user + system + ticks * TICK_US;
}
