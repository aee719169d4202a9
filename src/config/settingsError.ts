/** One setting that is wrong: which, what is wrong with it, and what to do. Holds no secrets. */
export interface SettingProblem {
  variable: string;
  problem: string;
  fix: string;
}

/** All settings that are wrong, in one message: nobody should have to start ten times. */
export class SettingsError extends Error {
  readonly problems: readonly SettingProblem[];

  constructor(problems: readonly SettingProblem[]) {
    const count = problems.length === 1 ? 'one setting is' : `${problems.length} settings are`;
    const lines = problems.map(
      ({ variable, problem, fix }) => `  ${variable}  ${problem}\n      fix: ${fix}`,
    );
    super(`Purser cannot start: ${count} wrong.\n\n${lines.join('\n')}\n`);
    this.name = 'SettingsError';
    this.problems = problems;
  }
}
