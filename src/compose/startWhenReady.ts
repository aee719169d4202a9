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

/** Where to look, for messages that do not say so themselves. */
const SETTINGS_OF: Readonly<Record<string, string>> = {
  embedded: 'PURSER_DATA_DIR',
  pg: 'DATABASE_URL',
  supabase: 'SUPABASE_URL and SUPABASE_SECRET_KEY',
  memory: '',
  tcp: 'REDIS_URL',
  upstash: 'UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN',
};

/**
 * Asks every part once and says what is wrong with it and what to do, then begins the background
 * work as soon as the database is ready, however late that is: a server that came up before its
 * database, or before the migration, heals by itself. Resolves when each part has been heard or
 * FIRST_LOOK_MS are over.
 */
export async function startWhenReady(
  { settings, health, stripe, logger }: StartDeps,
  begin: () => void,
): Promise<{ stop(): void }> {
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

  await Promise.all([
    lookAtDatabase(),
    warn('Redis', health.redis, settings.parts.redis, 'Checks ask the ledger until it answers.'),
    warn('Stripe', stripe, '', 'Prices and checkouts answer 503 until that is mended.'),
  ]);

  async function warn(name: string, check: () => Promise<unknown>, part: string, effect: string) {
    const problem = await problemOf(check);
    if (problem === null || stopped) return;
    logger.warn(`${name} is not ready: ${problem} ${whereToLook(part, problem)}${effect}`);
  }

  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

async function databaseProblem(health: HealthChecks, part: string): Promise<string | null> {
  const unreachable = await problemOf(health.database);
  if (unreachable !== null) {
    return `The database is not ready: ${unreachable} ${whereToLook(part, unreachable)}`.trim();
  }
  const schema = await problemOf(health.schema);
  return schema === null ? null : `The database is not ready: ${schema}`;
}

function whereToLook(part: string, problem: string): string {
  const variables = SETTINGS_OF[part] ?? '';
  const named = variables.split(' and ').some((variable) => problem.includes(variable));
  return variables === '' || named ? '' : `Check ${variables}. `;
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
