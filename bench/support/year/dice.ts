/** Chance that is the same in every run of a seed, and of its own for each name. */
export interface Dice {
  /** From 0, below 1. */
  next(): number;
  /** True once in so many throws, on average. */
  oneIn(throws: number): boolean;
  /** A whole number, both ends included. */
  between(least: number, most: number): number;
  /** One of these, by weight. */
  pick<T>(weighted: readonly (readonly [weight: number, value: T])[]): T;
}

/** Mulberry32: small, even enough for stories, and without state elsewhere. */
export function createDice(name: string): Dice {
  let state = 2_166_136_261;
  for (const char of name) state = Math.imul(state ^ char.charCodeAt(0), 16_777_619);
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    oneIn: (throws) => next() * throws < 1,
    between: (least, most) => least + Math.floor(next() * (most - least + 1)),
    pick(weighted) {
      let left = next() * weighted.reduce((sum, [weight]) => sum + weight, 0);
      for (const [weight, value] of weighted) {
        left -= weight;
        if (left < 0) return value;
      }
      const last = weighted.at(-1);
      if (last === undefined) throw new RangeError('There is nothing to pick from.');
      return last[1];
    },
  };
}
