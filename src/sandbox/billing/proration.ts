/** Amounts of parts of a period. Integers in the smallest unit, rounded half away from zero. */

/** `amount` times `part / whole`, without floats. */
export function share(amount: number, part: number, whole: number): number {
  if (whole <= 0) return 0;
  const sign = amount < 0 ? -1 : 1;
  const product = BigInt(Math.abs(amount)) * BigInt(Math.max(0, part)) * 2n + BigInt(whole);
  return sign * Number(product / (2n * BigInt(whole))) || 0;
}

/** Splits `total` in proportion to `weights`, to the last cent. */
export function split(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((all, weight) => all + weight, 0);
  if (sum === 0) return weights.map(() => 0);
  let given = 0;
  let seen = 0;
  return weights.map((weight) => {
    seen += weight;
    const upTo = share(total, seen, sum);
    const part = upTo - given;
    given = upTo;
    return part;
  });
}
