/**
 * No test may be skipped, narrowed to or left for later except through `describeWith()`, whose
 * skips are printed with their reason. A text search is enough: what it forbids has no other use.
 */
import { readFileSync } from 'node:fs';
import type { Violation } from './check-imports.ts';
import { formatViolation } from './check-imports.ts';
import { isMain, listFiles } from './source-files.ts';

/** The one file that may skip. */
const ALLOWED = 'tests/support/requirements.ts';

const HIDDEN_SKIPS = [
  /\b(?:it|test|describe)(?:\.\w+)*\.(?:skip|only|todo|failing)\b/,
  /\b(?:it|test|describe)\[/,
  /(?<!\.)\b(?:xit|xtest|xdescribe|fit|ftest|fdescribe)(?:\.each)?[(`]/,
];

export function checkSkips(files: ReadonlyMap<string, string>): Violation[] {
  const violations: Violation[] = [];
  for (const [file, text] of files) {
    if (file === ALLOWED) continue;
    for (const [index, line] of text.split('\n').entries()) {
      const found = HIDDEN_SKIPS.map((pattern) => pattern.exec(line)?.[0]).find(Boolean);
      if (found === undefined) continue;
      const message = `${found} hides tests from the run`;
      const fix = `Run them, delete them, or use describeWith() of ${ALLOWED}.`;
      violations.push({ file, line: index + 1, message, fix });
    }
  }
  return violations;
}

if (isMain(import.meta.url)) {
  const paths = listFiles('tests').filter((path) => /\.[jt]sx?$/.test(path));
  const violations = checkSkips(new Map(paths.map((path) => [path, readFileSync(path, 'utf8')])));
  for (const violation of violations) console.error(formatViolation(violation));
  if (violations.length > 0) process.exitCode = 1;
  else console.log(`${paths.length} test files, none hides a test`);
}
