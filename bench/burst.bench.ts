/**
 * Ten thousand signed events, a mix of all that purchases of packs and plans bring, sent over HTTP
 * to a server of its own process as fast as it takes them, every tenth twice. Every 2xx must have
 * its row, all must drain, and every buyer must have exactly what he paid for; the rates are
 * printed. `npm run bench -- burst`.
 */
import { randomBytes } from 'node:crypto';
import Stripe from 'stripe';
import { loadCatalogue } from '../src/catalogue/catalogue.ts';
import { sandboxCatalogue } from '../src/compose/sandboxCatalogue.ts';
import { startSandbox } from '../src/sandbox/index.ts';
import { startServerProcess } from '../tests/support/crashServer.ts';
import { findBurstFaults, prepareBurst, sendBurst, waitUntilDrained } from './support/burst.ts';
import { startBenchPostgres } from './support/postgres.ts';

const EVENTS = Number(process.env.BURST_EVENTS ?? 10_000);

const key = () => randomBytes(24).toString('hex');
const postgres = await startBenchPostgres();
const sandbox = await startSandbox();
const secret = `whsec_${key()}`;
const server = await startServerProcess({
  DATABASE_URL: postgres.connectionString,
  STRIPE_SECRET_KEY: sandbox.secretKey,
  STRIPE_API_BASE: sandbox.origin,
  STRIPE_WEBHOOK_SECRET: secret,
  PURSER_SERVICE_KEY: key(),
  PURSER_ADMIN_KEY: key(),
  LOG_LEVEL: 'warn',
  PORT: '0',
});
try {
  await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(undefined)));
  const { host, port, secretKey } = sandbox;
  const stripe = new Stripe(secretKey, { host, port, protocol: 'http', telemetry: false });
  const { query } = postgres;
  const { events, credits } = await prepareBurst({ sandbox, stripe, query }, EVENTS);
  const startedAt = performance.now();
  const sent = await sendBurst({ stripe, url: server.url, secret }, events);
  const drainSeconds = await waitUntilDrained(query);
  const total = (performance.now() - startedAt) / 1000;
  const faults = await findBurstFaults(query, sent.taken, credits);
  const rows = await query<{ status: string; n: number }>(
    'select status, count(*)::int as n from stripe_webhook_events group by status order by status',
  );
  console.table({
    'distinct events': events.length,
    'taken a second': Math.round(sent.taken.size / sent.seconds),
    'worked off a second': Math.round(events.length / total),
    'seconds of sending': Number(sent.seconds.toFixed(1)),
    'seconds of draining after it': Number(drainSeconds.toFixed(1)),
    buyers: credits.size,
    ...Object.fromEntries(rows.map(({ status, n }) => [`rows ${status}`, n])),
    ...Object.fromEntries(Object.entries(sent.answers).map(([code, n]) => [`answers ${code}`, n])),
    lost: faults.lost.length,
    doubled: faults.doubled.length,
    unfinished: faults.unfinished.length,
    'users with wrong credits': faults.wrong.length,
    drift: faults.drift,
  });
  const failed = Object.values(faults).some((list) => list !== 0 && (list as []).length !== 0);
  if (failed) {
    console.error(JSON.stringify(faults, null, 2).slice(0, 4_000));
    process.exitCode = 1;
  }
} finally {
  await server.stop();
  await sandbox.stop();
  await postgres.stop();
}
