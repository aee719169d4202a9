import { recogniseMistake } from './mistakes.ts';
import type { SettingProblem } from './settingsError.ts';
import { type Values, type Variable, variables } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface ReadVariables {
  values: Values;
  /** The name each variable was found under, where that is an alias. */
  aliases: ReadonlyMap<string, string>;
  problems: SettingProblem[];
  warnings: string[];
}

/** How much of a wrong value is repeated in a message; secrets are not repeated at all. */
const SHOWN_CHARACTERS_MAX = 60;

interface Found {
  name: string;
  value: string;
}

/**
 * The trimmed value under the name or its first alias that is set. An empty string counts as not
 * set: that is how `.env` templates and CI forms write "nothing".
 */
function find(env: Environment, names: readonly string[], secret: boolean, warnings: string[]) {
  let found: Found | null = null;
  for (const name of names) {
    const raw = env[name];
    const value = raw?.trim() ?? '';
    if (value === '') continue;
    if (secret && value !== raw) {
      warnings.push(
        `${name} had white space or a newline around it, which was removed. Correct it where it is set.`,
      );
    }
    if (found === null) found = { name, value };
    else if (found.value !== value) {
      warnings.push(`${name} differs from ${found.name} and is ignored; ${found.name} wins.`);
    }
  }
  return found;
}

/** Reads and checks each variable by itself, and reports all that are wrong. */
export function readVariables(env: Environment): ReadVariables {
  const values: Record<string, unknown> = {};
  const problems: SettingProblem[] = [];
  const warnings: string[] = [];
  const aliases = new Map<string, string>();
  for (const [name, variable] of Object.entries<Variable>(variables)) {
    const found = find(env, [name, ...variable.aliases], variable.secret, warnings);
    if (found === null) continue;
    if (found.name !== name) aliases.set(name, found.name);
    const mistake = recogniseMistake({ canonical: name, ...found, copied: isCopied(variable) });
    if (mistake !== null) {
      problems.push({ variable: found.name, fix: variable.fix, ...mistake });
      continue;
    }
    const parsed = variable.schema.safeParse(found.value);
    if (parsed.success) {
      values[name] = parsed.data;
      continue;
    }
    const shown = variable.secret
      ? ''
      : ` (it is ${JSON.stringify(found.value.slice(0, SHOWN_CHARACTERS_MAX))})`;
    problems.push({
      variable: found.name,
      problem: `${parsed.error.issues[0]?.message ?? 'is not valid'}${shown}`,
      fix: variable.fix,
    });
  }
  return { values, aliases, problems, warnings };
}

/** Addresses of another service's project are shown, and copied all the same. */
function isCopied({ secret, project }: Variable): boolean {
  return secret || project;
}
