import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import { MUTANTS, plant } from '../../scripts/mutant-list.ts';

it('there are more than a dozen, each of its own name', () => {
  expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
  expect(MUTANTS.length).toBeGreaterThan(12);
});

it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  'can be planted: %s',
  (_name, mutant) => {
    const sql = readFileSync(`sql/${mutant.file}`, 'utf8');
    expect(plant(mutant, sql)).not.toBe(sql);
    for (const test of mutant.tests) expect(readFileSync(test, 'utf8')).not.toBe('');
  },
);

it('one whose anchor is gone, or no longer alone, is named', () => {
  const [mutant] = MUTANTS;
  if (mutant === undefined) throw new Error('There is no mutant.');
  expect(() => plant(mutant, '')).toThrow(`The anchor of "${mutant.name}" occurs 0 times`);
  expect(() => plant(mutant, mutant.find + mutant.find)).toThrow('occurs 2 times');
});
