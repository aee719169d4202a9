import type { DunningPolicy } from '../catalogue/dunningPolicy.ts';
import type { DunningEffect } from '../credits/effects.ts';

/** The steps of a policy, in order: mails that grow more urgent, then the end. */
export function scheduleOf({ mailDays, cancelDay }: DunningPolicy): DunningEffect['schedule'] {
  const mails = mailDays.map((day, index) => ({
    day,
    action: 'mail' as const,
    urgency: urgencyOf(index, mailDays.length),
  }));
  return cancelDay === null
    ? mails
    : [...mails, { day: cancelDay, action: 'cancel' as const, urgency: null }];
}

/** The first one is the news, whatever follows; the last one is the warning. */
function urgencyOf(index: number, count: number): 'first' | 'second' | 'final' {
  if (index === 0) return 'first';
  return index === count - 1 ? 'final' : 'second';
}
