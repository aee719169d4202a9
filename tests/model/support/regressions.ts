/**
 * Histories that told two stories, shrunk to the steps that matter, each by the rule that was
 * broken: they are lived in every run. Those marked "mutant" broke a planted fault.
 */
import type { History } from './compare.ts';

export const REGRESSIONS: Record<string, History> = {
  'an account that was away through a refund is at its target when it returns': {
    past: true,
    steps: [
      {
        do: 'buy',
        user: 0,
        settlement: 0,
        lots: [{ credits: 40, lasts: 100, priority: 100, kind: 'paid' }],
        with: ['session', 'A'],
        hours: 0,
      },
      { do: 'consume', user: 0, amount: 15, key: null, hours: 1 },
      { do: 'delete', user: 0, hours: 0 },
      {
        do: 'payment',
        settlement: 0,
        name: 'A',
        paid: 997,
        refunded: 500,
        disputed: 0,
        off: 0,
        says: true,
        hours: 1,
      },
      { do: 'insert', user: 0, hours: 1 },
    ],
  },
};
