/** A process of its own that shares a data directory; told by arguments, it reports as JSON lines. */
import { joinOrStartSandbox } from '../../../src/sandbox/index.ts';

const [dataDir = '', delaySettleMs = '60000'] = process.argv.slice(2);
const sandbox = await joinOrStartSandbox({
  dataDir,
  delaySettleMs: Number(delaySettleMs),
  retryScheduleMs: [100, 200, 400, 800, 1_600],
});
const { origin, joined, secretKey } = sandbox;
process.stdout.write(`${JSON.stringify({ origin, joined, secretKey })}\n`);
setInterval(() => {}, 1_000);
process.on('SIGTERM', () => void sandbox.stop().then(() => process.exit(0)));
