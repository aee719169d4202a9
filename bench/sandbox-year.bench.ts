/**
 * How long a year of 1,000 customers takes in the Stripe sandbox: monthly plans with upgrades,
 * cancellations and failed payments, without webhooks. One run, as a user's own test makes one: the
 * aim is a minute, and it is printed, not gated. `npm run bench -- sandbox-year`.
 */
import { performance } from 'node:perf_hooks';
import { startSandbox } from '../src/sandbox/index.ts';
import { simulateYear } from './support/sandboxYear.ts';

const CUSTOMERS = Number(process.env.SANDBOX_YEAR_CUSTOMERS ?? 1_000);
const AIM_SECONDS = 60;
const REPORT_EVERY_DAYS = 73;

const sandbox = await startSandbox({ seed: 'year', now: () => Date.UTC(2026, 0, 1) });
try {
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const seconds = () => (performance.now() - startedAt) / 1_000;
  const report = await simulateYear(sandbox, CUSTOMERS, (day, tasks) => {
    if (day % REPORT_EVERY_DAYS !== 0) return;
    console.log(`day ${day}: ${tasks} tasks, ${seconds().toFixed(1)} s`);
  });
  const cpu = process.cpuUsage(cpuBefore);
  console.table([
    {
      ...report,
      seconds: Number(seconds().toFixed(1)),
      'cpu seconds': Number(((cpu.user + cpu.system) / 1e6).toFixed(1)),
      'heap MB': Math.round(process.memoryUsage().heapUsed / 2 ** 20),
    },
  ]);
  const met = seconds() <= AIM_SECONDS ? 'met' : 'missed';
  console.log(`A year of ${CUSTOMERS} customers in ${AIM_SECONDS} s: ${met}.`);
} finally {
  await sandbox.stop();
}
