import { InvalidArgumentError } from 'commander';

/** Reads a whole number of an option. */
export function wholeNumber(min: number, max: number) {
  return (text: string): number => {
    const number = Number(text);
    if (!Number.isInteger(number) || number < min || number > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return number;
  };
}

/** Reads an instant: ISO 8601, or how long ago (30m, 6h, 2d). Answers ISO 8601. */
export function instant(text: string): string {
  const ago = /^(\d{1,4})([mhd])$/.exec(text);
  if (ago !== null) {
    const unit = { m: 60_000, h: 3_600_000, d: 86_400_000 }[ago[2] as 'm' | 'h' | 'd'];
    return new Date(Date.now() - Number(ago[1]) * unit).toISOString();
  }
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text) : new Date(Number.NaN);
  if (Number.isNaN(at.getTime())) {
    throw new InvalidArgumentError(
      'Write 2026-11-21, 2026-11-21T10:00:00Z, or how long ago: 30m, 6h, 2d.',
    );
  }
  return at.toISOString();
}
