import { PurserError } from '../../core/errors.ts';
import { CannotLook, type Finding, type Rule, STATUSES, type Status, skipped } from './rule.ts';
import type { Site } from './site.ts';

/** What became of one rule. */
export interface Examined {
  code: string;
  title: string;
  /** The worst of its findings. */
  status: Status;
  findings: Finding[];
}

/**
 * Looks at one rule. What the rule met on the way and has no word for is a failure with its own
 * message: a doctor that ends at the first surprise helps nobody.
 */
export async function examine(site: Site, { code, title, check }: Rule): Promise<Examined> {
  let findings: Finding[];
  try {
    findings = [await check(site)].flat();
  } catch (error) {
    if (error instanceof CannotLook) findings = [skipped(error.message)];
    else if (error instanceof PurserError) {
      findings = [
        { status: 'fail', detail: error.message, fix: 'Mend that first, then ask again.' },
      ];
    } else throw error;
  }
  const status = STATUSES.find((one) => findings.some((finding) => finding.status === one));
  return { code, title, status: status ?? 'ok', findings };
}
