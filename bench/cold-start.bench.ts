/**
 * G17: what a cold start of the function costs beside the bare imports of the six libraries it
 * cannot do without. Both are a fresh process; the function has read its settings, put everything
 * together and could answer its first request. (G18 asks for an entry for webhooks alone: there is
 * none, one function answers every route.)
 */
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildFunction } from '../scripts/build-vercel.ts';
import { report } from './support/report.ts';
import { interleave } from './support/rounds.ts';

const STARTS_PER_TURN = 3;
const SIX = ['express', 'stripe', '@supabase/supabase-js', '@upstash/redis', 'zod', 'winston'];

const bundle = await buildFunction();
const entry = pathToFileURL(resolve(bundle.path)).href;

const key = (name: string) => `${name}-0123456789-0123456789-0123456789`;
const settings = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://credits.example.com',
  SUPABASE_URL: 'https://abcdefghijklmnopqrst.supabase.co',
  SUPABASE_SECRET_KEY: 'sb_secret_0123456789',
  UPSTASH_REDIS_REST_URL: 'https://bench.upstash.io',
  UPSTASH_REDIS_REST_TOKEN: '0123456789',
  STRIPE_SECRET_KEY: 'sk_test_0123456789',
  STRIPE_WEBHOOK_SECRET: 'whsec_0123456789',
  PURSER_SERVICE_KEY: key('service'),
  PURSER_ADMIN_KEY: key('admin'),
  CRON_SECRET: key('cron'),
};

function start(script: string): number {
  for (let count = 0; count < STARTS_PER_TURN; count += 1) {
    // What it says on stderr is shown: a function that found its settings wrong is no result.
    execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
      env: settings,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  return STARTS_PER_TURN;
}

const result = await interleave({
  rounds: 9,
  baseline: 'six bare imports',
  cases: {
    'empty process': async () => start(''),
    'six bare imports': async () => start(SIX.map((name) => `import '${name}';`).join('\n')),
    'function ready': async () => start(`import '${entry}';`),
  },
});
const perStart = (name: keyof typeof result.cases) => result.cases[name].cpuUsPerOp.median;
const net =
  (perStart('function ready') - perStart('empty process')) /
  (perStart('six bare imports') - perStart('empty process'));
report({
  url: import.meta.url,
  claim: 'a cold start of the whole function costs less than importing its six libraries',
  operation: 'start',
  result,
  goals: [{ case: 'function ready', measure: 'cpu', atMost: 1.1 }],
  notes: {
    aim: 'cpu ratio of at most 0.70',
    'cpu ratio without the empty process': net.toFixed(2),
    'bundle kB': Math.round(bundle.bytes / 1024),
    'bundle kB gzipped': Math.round(bundle.gzipBytes / 1024),
  },
});
