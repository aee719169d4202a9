/**
 * `npm start` asks before every start whether dist is fresh. The limit is a Node process that does
 * nothing: what is above it is the price of never starting an old build.
 */
import { execFileSync } from 'node:child_process';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const STARTS_PER_TURN = 5;

function startNode(...args: string[]): number {
  for (let start = 0; start < STARTS_PER_TURN; start += 1) execFileSync(process.execPath, args);
  return STARTS_PER_TURN;
}

// The first turn, which is not measured, builds where that is needed.
const result = await interleave({
  rounds: 7,
  cases: {
    'empty process': async () => startNode('--eval', ''),
    'fresh check': async () => startNode('scripts/ensure-build.mjs'),
  },
});
report({
  url: import.meta.url,
  claim: 'asking whether dist is fresh costs no more than starting Node once more',
  operation: 'start',
  result,
  goals: [{ case: 'fresh check', measure: 'cpu', atMost: 2 }],
});
