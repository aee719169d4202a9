import type { Site } from './site.ts';

/** How one look of a rule ended; the first word in this order that a rule has is its result. */
export const STATUSES = ['fail', 'warn', 'ok', 'skipped'] as const;
export type Status = (typeof STATUSES)[number];

export interface Finding {
  status: Status;
  /** What was seen, or why nothing was looked at; a sentence without secrets. */
  detail: string;
  /** What to do; always there for `fail` and `warn`. */
  fix?: string;
}

export interface Rule {
  /** Stable; programs that read `--json` go by it. */
  code: string;
  title: string;
  /** What the rule has found. Errors: `CannotLook` becomes `skipped`, with its message. */
  check(site: Site): Promise<Finding | Finding[]>;
}

/** The rule has nothing to look at; the message says why. */
export class CannotLook extends Error {
  constructor(why: string, cause?: unknown) {
    super(why, { cause });
    this.name = 'CannotLook';
  }
}

export const ok = (detail: string): Finding => ({ status: 'ok', detail });
export const warn = (detail: string, fix: string): Finding => ({ status: 'warn', detail, fix });
export const fail = (detail: string, fix: string): Finding => ({ status: 'fail', detail, fix });
export const skipped = (detail: string): Finding => ({ status: 'skipped', detail });

/** "a, b and c", cut after a few: the doctor tells what is wrong, lists are for the admin pages. */
export function listed(names: readonly string[], max = 5): string {
  const shown = names.slice(0, max);
  const rest = names.length - shown.length;
  if (rest > 0) return `${shown.join(', ')} and ${rest} more`;
  return shown.length < 2
    ? (shown[0] ?? '')
    : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
