import { z } from 'zod';
import {
  ADVANCE_MAX_MS,
  ADVANCE_STEPS_DEFAULT,
  ADVANCE_STEPS_MAX,
  type AdvanceResult,
  type Advancer,
} from './advance.ts';
import type { Clock } from './clock.ts';
import { parseControl } from './controlBody.ts';
import { badRequest } from './errors.ts';
import type { Store } from './store.ts';

/** What the clock says, and what its advance has done. Times are seconds, as everywhere in Stripe. */
export interface ClockAnswer {
  readonly object: 'sandbox.clock';
  readonly now: number;
  readonly now_iso: string;
  readonly frozen: boolean;
  /** Where an advance under way is going; null when none is. */
  readonly advancing_to: number | null;
}
export interface AdvanceAnswer extends ClockAnswer {
  /** False: more is due than one call does. Advance `to` the same target again. */
  readonly done: boolean;
  readonly target: number;
  readonly target_iso: string;
  readonly tasks: number;
  readonly attempts: number;
}

/** Said wherever the clock is moved: who waits for a reminder that never comes looks here first. */
export const ONLY_STRIPES_TIME =
  "Only Stripe's time moves. What an application does by its own clock keeps real time: Purser's reminders and its cancellation after an unpaid renewal, the expiry of credits, quotas of a day.";

const amount = z.number().min(0);
const advanceSchema = z.strictObject({
  to: z
    .union([z.int().min(0), z.iso.datetime({ offset: true }), z.iso.date()], {
      error:
        'Unix seconds, a day like 2027-01-31 (its first moment, UTC), or a moment with its time zone like 2027-01-31T09:30:00Z',
    })
    .optional(),
  seconds: amount.optional(),
  hours: amount.optional(),
  days: amount.optional(),
  max_steps: z.int().min(1).max(ADVANCE_STEPS_MAX).default(ADVANCE_STEPS_DEFAULT),
});
const emptySchema = z.strictObject({});

interface Parts {
  readonly store: Store;
  readonly clock: Clock;
  readonly advancer: Advancer;
}

/** The clock's part of the control API; null when the request is for another part. @throws ApiError */
export async function runClock(
  parts: Parts,
  request: { method: string; path: string; body: unknown },
): Promise<ClockAnswer | null> {
  const { store, clock } = parts;
  switch (`${request.method} ${request.path}`) {
    case 'GET /_sandbox/clock':
      return read(parts);
    case 'POST /_sandbox/clock/freeze':
      parseControl(emptySchema, request.body);
      notWhileAdvancing(parts);
      store.transaction(() => clock.freeze());
      return read(parts);
    case 'POST /_sandbox/clock/flow':
      parseControl(emptySchema, request.body);
      notWhileAdvancing(parts);
      store.transaction(() => clock.flow());
      return read(parts);
    case 'POST /_sandbox/clock/advance':
      return advance(parts, parseControl(advanceSchema, request.body));
    default:
      return null;
  }
}

function read({ clock, advancer }: Parts): ClockAnswer {
  const now = clock.now();
  const target = advancer.target();
  return {
    object: 'sandbox.clock',
    now: Math.floor(now / 1_000),
    now_iso: new Date(now).toISOString(),
    frozen: clock.isFrozen() && target === null,
    advancing_to: target === null ? null : Math.floor(target / 1_000),
  };
}

async function advance(
  parts: Parts,
  given: z.output<typeof advanceSchema>,
): Promise<AdvanceAnswer> {
  notWhileAdvancing(parts);
  const now = parts.clock.now();
  const target = targetOf(given, now);
  if (target < now) {
    throw badRequest(
      `The clock is at ${new Date(now).toISOString()} and goes forward only, not to ${new Date(target).toISOString()}.`,
      { param: 'to' },
    );
  }
  if (target - now > ADVANCE_MAX_MS) {
    throw badRequest('One advance goes 20 years ahead at most. `to` is in seconds.', {
      param: 'to',
    });
  }
  const result: AdvanceResult = await parts.advancer.advance(target, given.max_steps);
  return {
    ...read(parts),
    done: result.done,
    target: Math.floor(target / 1_000),
    target_iso: new Date(target).toISOString(),
    tasks: result.tasks,
    attempts: result.attempts,
  };
}

function targetOf(given: z.output<typeof advanceSchema>, now: number): number {
  const { to, seconds, hours, days } = given;
  const ways = [to, seconds, hours, days].filter((way) => way !== undefined);
  if (ways.length !== 1) {
    throw badRequest('Say how far with exactly one of to, seconds, hours, days.', { param: 'to' });
  }
  if (typeof to === 'string') return Date.parse(to);
  // The current second is not behind us, although its first millisecond is.
  if (to !== undefined) return to === Math.floor(now / 1_000) ? now : to * 1_000;
  return now + Math.round(((seconds ?? 0) + (hours ?? 0) * 3_600 + (days ?? 0) * 86_400) * 1_000);
}

function notWhileAdvancing({ advancer }: Parts): void {
  const target = advancer.target();
  if (target === null) return;
  throw badRequest(
    `The clock is already on its way to ${new Date(target).toISOString()}. Wait until it has arrived.`,
  );
}
