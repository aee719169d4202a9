/**
 * Histories that are lived in every run, by the rule they are about: shrunk ones that once told
 * two stories (of the ledger, or with a fault of scripts/mutant-list.ts planted), and the corners
 * where the rules meet. A counterexample that fast-check prints can be pasted here as it is.
 */
import type { History } from './compare.ts';
import type { Step } from './steps.ts';

const paidLot = (credits: number, lasts: number | null = null) => ({
  credits,
  lasts,
  priority: 100,
  kind: 'paid' as const,
});
const buy = (credits: number, lasts: number | null, settlement = 0): Step => ({
  do: 'buy',
  user: 0,
  settlement,
  lots: [paidLot(credits, lasts)],
  with: ['session', 'A'],
  hours: 0,
});
const refund = (refunded: number, settlement = 0, hours = 0): Step => ({
  do: 'payment',
  settlement,
  name: 'A',
  paid: 997,
  refunded,
  disputed: 0,
  off: 0,
  says: false,
  hours,
});
const consume = (amount: number, hours = 0): Step => ({
  do: 'consume',
  user: 0,
  amount,
  key: null,
  hours,
});
const giveBack = (amount: number | null): Step => ({
  do: 'refund',
  user: 0,
  usage: 0,
  any: false,
  amount,
  key: null,
  hours: 0,
});

export const REGRESSIONS: Record<string, History> = {
  'an account that was away through a refund is at its target when it returns': {
    past: true,
    steps: [
      buy(40, 100),
      consume(15, 1),
      { do: 'delete', user: 0, hours: 0 },
      refund(500, 0, 1),
      { do: 'insert', user: 0, hours: 1 },
    ],
  },
  'one that returns before its credits expire gets them back from a refund that failed': {
    past: false,
    steps: [
      buy(40, 100),
      refund(997),
      { do: 'delete', user: 0, hours: 0 },
      refund(0, 0, 1),
      { do: 'insert', user: 0, hours: 0 },
      consume(3, 200),
    ],
  },
  'a refund that takes own lots, other lots and debt is undone part by part, after an expiry': {
    past: true,
    steps: [
      buy(40, 50),
      buy(30, null, 1),
      consume(55),
      refund(600),
      refund(997),
      buy(20, null, 1),
      refund(700, 0, 60),
      refund(300),
      refund(0),
    ],
  },
  'usage of two lots comes back in three parts, around a debt': {
    past: true,
    steps: [
      buy(12, 30),
      buy(20, null, 1),
      consume(20),
      giveBack(5),
      refund(997),
      giveBack(3),
      refund(400, 1, 40),
      giveBack(null),
    ],
  },
  'a hold made while suspended reaches for plan credits last, and late it asks for its credits': {
    past: true,
    steps: [
      {
        do: 'give',
        user: 0,
        type: 'allocation',
        key: null,
        lots: [{ credits: 20, lasts: null, priority: 50, kind: 'plan' }, paidLot(10)],
        hours: 0,
      },
      { do: 'suspend', user: 0, suspended: true, hours: 0 },
      { do: 'hold', user: 0, amount: 8, key: null, lasts: 10, hours: 0 },
      { do: 'suspend', user: 0, suspended: false, hours: 0 },
      { do: 'capture', hold: 0, amount: 3, key: 0, hours: 1 },
      consume(25),
      { do: 'capture', hold: 0, amount: null, key: 1, hours: 20 },
      { do: 'capture', hold: 0, amount: 2, key: 1, hours: 0 },
    ],
  },
};
