/**
 * What some suites need from the machine, and the only way a suite may be skipped. A suite that
 * skips in silence proves nothing, so the reporter prints each skipped one with its reason, and
 * with CI=true a skipped one fails the run.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe } from '@jest/globals';

interface Requirement {
  /** Where it is, or null when this machine lacks it. */
  find(env: NodeJS.ProcessEnv): string | null;
  /** What to do to get it: one command if there is one. */
  remedy: string;
}

function isExecutableFile(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // absent or not executable: both mean "not here", which is the answer
  }
}

function onPath(env: NodeJS.ProcessEnv, ...names: string[]): string | null {
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const name of names) {
    const found = folders.map((folder) => join(folder, name)).find(isExecutableFile);
    if (found !== undefined) return found;
  }
  return null;
}

const REQUIREMENTS = {
  chromium: {
    find: (env) => {
      // A path that was set and is wrong must not fall back to another browser unseen.
      if (env.CHROMIUM_PATH) return isExecutableFile(env.CHROMIUM_PATH) ? env.CHROMIUM_PATH : null;
      if (isExecutableFile('/usr/bin/chromium')) return '/usr/bin/chromium';
      return onPath(env, 'chromium', 'chromium-browser', 'google-chrome');
    },
    remedy: 'apt-get install chromium, or set CHROMIUM_PATH',
  },
  'redis-server': {
    find: (env) => onPath(env, 'redis-server'),
    remedy: 'apt-get install redis-server',
  },
  /** Supabase's own linter runs in its command line tool: 140 MB, so not among the packages here. */
  supabase: {
    find: (env) => {
      if (env.SUPABASE_CLI) return isExecutableFile(env.SUPABASE_CLI) ? env.SUPABASE_CLI : null;
      const local = join('node_modules', '.bin', 'supabase');
      return isExecutableFile(local) ? local : onPath(env, 'supabase');
    },
    remedy: 'npm install --no-save supabase@3.1.0, or set SUPABASE_CLI',
  },
  /** For what only root can prove. Where a test can work either way, let it: nobody installs root. */
  root: {
    find: () => (process.getuid?.() === 0 ? 'root' : null),
    remedy: 'run the tests as root',
  },
} satisfies Record<string, Requirement>;

export type RequirementName = keyof typeof REQUIREMENTS;

/** Path of the program (for `root` the word itself), or null when this machine lacks it. */
export function findRequirement(
  name: RequirementName,
  env: NodeJS.ProcessEnv = process.env,
): string | null {
  return REQUIREMENTS[name].find(env);
}

/** Title of a suite skipped for want of `need`; the reporter reads need and remedy back. */
export function skippedTitle(need: RequirementName, name: string): string {
  return `${name} [needs ${need}: ${REQUIREMENTS[need].remedy}]`;
}

/**
 * Title of a test that passed on less than could be had, where no machine is expected to have
 * more. The reporter prints it as a note; it is no skip, and no reason to fail.
 */
export function noteTitle(name: string, remedy: string): string {
  return `${name} [note: ${remedy}]`;
}

/**
 * A `describe` that runs where `need` is met and is skipped, with its reason printed, elsewhere.
 * `body` gets the path found. It is called in both cases so that its tests are counted, with ''
 * when skipped: it may declare tests and hooks, but start nothing outside of them.
 */
export function describeWith(
  need: RequirementName,
  name: string,
  body: (found: string) => void,
): void {
  const found = findRequirement(need);
  if (found !== null) describe(name, () => body(found));
  else describe.skip(skippedTitle(need, name), () => body(''));
}
