import type { HealthChecks } from '../api/deps.ts';
import type { Settings } from '../config.ts';
import type { Logger } from '../core/ports.ts';

/** How long the start waits for the first answers; the server serves all the while. */
const FIRST_LOOK_MS = 3_000;
const LOOK_AGAIN_MS = 2_000;

export interface StartDeps {
  settings: Pick<Settings, 'parts'>;
  health: HealthChecks;
  /** One harmless question that needs a valid key. */
  stripe: () => Promise<unknown>;
  logger: Logger;
}

/** What to do about a part that cannot be reached, where its message does not name the setting. */
const ADVICE: Readonly<Record<string, { setting: string; text: string }>> = {
  embedded: { setting: 'PURSER_DATA_DIR', text: 'Check PURSER_DATA_DIR.' },
  pg: {
    setting: 'DATABASE_URL',
    text: 'Check the host and port in DATABASE_URL, that the server runs, and that this machine may reach it.',
  },
  supabase: {
    setting: 'SUPABASE_URL',
    text: 'Check SUPABASE_URL, and that the project is not paused.',
  },
  tcp: {
    setting: 'REDIS_URL',
    text: 'Check REDIS_URL, that the server runs, and that this machine may reach it.',
  },
  upstash: {
    setting: 'UPSTASH_REDIS_REST_URL',
    text: 'Check UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN.',
  },
};

/**
 * Asks every part once and says what is wrong with it and what to do, then begins the background
 * work as soon as the database is ready, however late that is: a server that came up before its
 * database, or before the migration, heals by itself. `heard` resolves when each part has answered
 * once or FIRST_LOOK_MS are over; after `stop` nothing is begun any more.
 */
export function startWhenReady(
  { settings, health, stripe, logger }: StartDeps,
  begin: () => void,
): { heard: Promise<unknown>; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let told: string | null = null;

  async function lookAtDatabase(): Promise<void> {
    const problem = await databaseProblem(health, settings.parts.database);
    if (stopped) return;
    if (problem === null) {
      if (told !== null) logger.info('The database is ready now.');
      begin();
      return;
    }
    if (problem !== told) {
      logger.error(
        `${problem} Meanwhile /readyz answers 503, and the database is asked again every ${LOOK_AGAIN_MS / 1000} s.`,
      );
      told = problem;
    }
    timer = setTimeout(lookAtDatabase, LOOK_AGAIN_MS);
    timer.unref();
  }

  async function lookAtRedis(): Promise<void> {
    const problem = await problemOf(health.redis);
    if (problem === null || stopped) return;
    logger.warn(`Redis is not ready: ${advise(problem, settings.parts.redis)}`);
  }

  async function lookAtStripe(): Promise<void> {
    const problem = await problemOf(stripe);
    if (problem === null || stopped) return;
    logger.warn(
      `Stripe is not ready: ${problem} Prices and checkouts answer 503 until that is mended.`,
    );
  }

  return {
    heard: Promise.all([lookAtDatabase(), lookAtRedis(), lookAtStripe()]),
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

async function databaseProblem(health: HealthChecks, part: string): Promise<string | null> {
  const unreachable = await problemOf(health.database);
  if (unreachable !== null) return `The database is not ready: ${advise(unreachable, part)}`;
  const schema = await problemOf(health.schema);
  return schema === null ? null : `The database is not ready: ${schema}`;
}

function advise(problem: string, part: string): string {
  const advice = ADVICE[part];
  return advice === undefined || problem.includes(advice.setting)
    ? problem
    : `${problem} ${advice.text}`;
}

/** What is wrong, as a sentence; null when the check passes. */
async function problemOf(check: () => Promise<unknown>): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`no answer within ${FIRST_LOOK_MS / 1000} s.`), FIRST_LOOK_MS);
  });
  const answer = check().then(
    () => null,
    (error: unknown) => {
      const text = error instanceof Error ? error.message : String(error);
      return /[.!?]$/.test(text) ? text : `${text}.`;
    },
  );
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
