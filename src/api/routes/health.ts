import { Readable } from 'node:stream';
import { PurserError } from '../../core/errors.ts';
import { getHealth, getMetrics, getReadiness } from '../contract/operations.ts';
import { type Answer, defineRoute } from '../defineRoute.ts';
import type { AppDeps, HealthChecks } from '../deps.ts';

const CHECK_TIMEOUT_MS = 1_000;

/** What is wrong with one part, or null. A part that does not answer in time is down. */
async function problemOf(check: () => Promise<void>): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no answer within ${CHECK_TIMEOUT_MS} ms`)),
      CHECK_TIMEOUT_MS,
    );
  });
  try {
    await Promise.race([check(), timeout]);
    return null;
  } catch (error) {
    // Only our own words reach strangers: a driver's message may name hosts and users.
    return error instanceof PurserError ? error.message : 'does not answer';
  } finally {
    clearTimeout(timer);
  }
}

async function checkAll(health: HealthChecks) {
  const [database, schema, redis] = await Promise.all([
    problemOf(() => health.database()),
    problemOf(() => health.schema()),
    problemOf(() => health.redis()),
  ]);
  return { database, schema, redis };
}

const notReady = (detail: string, checks: Record<string, string>) =>
  new PurserError('dependency_down', { detail, extensions: { checks } });

/** Askers at the same time share one round of checks: anybody may ask. */
const underWay = new WeakMap<HealthChecks, ReturnType<typeof checkAll>>();

function sharedChecks(health: HealthChecks): ReturnType<typeof checkAll> {
  const running = underWay.get(health);
  if (running !== undefined) return running;
  const started = checkAll(health).finally(() => underWay.delete(health));
  underWay.set(health, started);
  return started;
}

async function readiness({ health, lifecycle }: AppDeps) {
  if (lifecycle.draining) {
    throw notReady('This process is stopping; others take over.', { process: 'stopping' });
  }
  const { database, schema, redis } = await sharedChecks(health);
  const problem = database ?? schema;
  if (problem !== null) {
    throw notReady(`Not ready: ${database === null ? 'schema' : 'database'}: ${problem}`, {
      database: database ?? 'ok',
      schema: schema ?? 'ok',
      redis: redis ?? 'ok',
    });
  }
  return {
    body: {
      status: 'ready' as const,
      checks: {
        database: 'ok' as const,
        schema: 'ok' as const,
        redis: redis === null ? ('ok' as const) : ('degraded' as const),
      },
    },
  };
}

export const healthRoutes = [
  defineRoute(
    getHealth,
    async (): Promise<Answer<{ status: 'ok' }>> => ({ body: { status: 'ok' } }),
  ),
  defineRoute(getReadiness, readiness),
  defineRoute(getMetrics, async ({ metrics }) => {
    const { contentType, body } = await metrics.render();
    return { stream: Readable.from([body]), headers: { 'Content-Type': contentType } };
  }),
];
