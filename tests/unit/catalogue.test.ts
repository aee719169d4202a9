import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { createCatalogue, loadCatalogue } from '../../src/catalogue/catalogue.ts';
import { PurserError } from '../../src/core/errors.ts';

function refusal(work: () => unknown): PurserError {
  try {
    work();
  } catch (error) {
    if (error instanceof PurserError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('the default catalogue', () => {
  const catalogue = loadCatalogue(undefined);

  it('sells the packs and plans of the contract', () => {
    expect(catalogue.packs.map(({ id, credits, unitAmount }) => [id, credits, unitAmount])).toEqual(
      [
        ['pack_50', 50, 500],
        ['pack_200', 200, 1800],
        ['pack_500', 500, 4000],
      ],
    );
    expect(catalogue.plans.map(({ id, interval, credits }) => [id, interval, credits])).toEqual([
      ['individual', 'month', 30],
      ['team', 'month', 200],
      ['custom', 'month', 500],
    ]);
    expect(catalogue.cost('image', 3)).toBe(15);
  });

  it('finds the entry of a price by id, look-up key and product', () => {
    expect(catalogue.entryOfPrice({ id: 'price_pack_50' })?.id).toBe('pack_50');
    expect(catalogue.entryOfPrice({ id: 'price_x', lookup_key: 'pack_200' })?.id).toBe('pack_200');
    expect(catalogue.entryOfPrice({ id: 'price_x', product: 'prod_team' })?.id).toBe('team');
    expect(catalogue.entryOfPrice({ id: 'price_x', product: { id: 'prod_x' } })).toBeNull();
  });
});

describe('a catalogue file', () => {
  it('needs credits and amount alone', () => {
    const { packs } = createCatalogue({
      currency: 'eur',
      packs: { mini: { credits: 5, amount: 100 } },
    });
    expect(packs[0]).toMatchObject({
      id: 'mini',
      name: '5 credits',
      lookupKey: 'mini',
      priceId: null,
      expiresAfterDays: null,
      invoice: true,
    });
  });

  it.each([
    [
      'an unknown field',
      { currency: 'usd', packs: { a: { credits: 1, amount: 1, colour: 'red' } } },
      'packs.a',
    ],
    [
      'a fraction of a credit',
      { currency: 'usd', packs: { a: { credits: 1.5, amount: 1 } } },
      'packs.a.credits',
    ],
    ['no credits', { currency: 'usd', packs: { a: { amount: 1 } } }, 'packs.a.credits'],
    [
      'credits beyond 2^53',
      { currency: 'usd', packs: { a: { credits: 2 ** 53, amount: 1 } } },
      'packs.a.credits',
    ],
    [
      'a negative amount',
      { currency: 'usd', packs: { a: { credits: 1, amount: -1 } } },
      'packs.a.amount',
    ],
    [
      'a weekly plan',
      { currency: 'usd', plans: { a: { credits: 1, amount: 1, interval: 'week' } } },
      'plans.a.interval',
    ],
    ['no currency', { packs: {} }, 'currency'],
    ['a currency in capitals', { currency: 'USD' }, 'currency'],
  ])('is refused with %s, by name', (_what, file, path) => {
    const { code, extensions } = refusal(() => createCatalogue(file));
    expect(code).toBe('invalid_request');
    expect(extensions.errors).toContainEqual(expect.objectContaining({ path }));
  });

  it('is refused when two entries answer to one look-up key', () => {
    const packs = {
      a: { credits: 1, amount: 1, lookup_key: 'same' },
      b: { credits: 2, amount: 1, lookup_key: 'same' },
    };
    expect(refusal(() => createCatalogue({ currency: 'usd', packs })).message).toContain(
      'lookup_key same belongs to both "a" and "b"',
    );
  });

  it('is refused when a pack and a plan share a name', () => {
    const entry = { credits: 1, amount: 1 };
    const file = {
      currency: 'usd',
      packs: { a: entry },
      plans: { a: { ...entry, lookup_key: 'other' } },
    };
    expect(refusal(() => createCatalogue(file)).message).toContain(
      '"a" names both a pack and a plan',
    );
  });

  it('names the file that cannot be read or parsed', () => {
    const file = path.join(mkdtempSync(path.join(tmpdir(), 'purser-catalogue-')), 'c.json');
    expect(refusal(() => loadCatalogue(file)).message).toContain(
      `${file} (PURSER_CATALOGUE) cannot be read`,
    );
    writeFileSync(file, '{');
    expect(refusal(() => loadCatalogue(file)).message).toContain('is not valid JSON');
  });
});

describe('the cost of a feature', () => {
  const { cost } = loadCatalogue(undefined);

  it('is refused for an unknown feature, naming the known ones', () => {
    expect(refusal(() => cost('video', 1)).message).toContain('Known features: image');
  });

  it('is refused beyond 2^53 - 1 credits', () => {
    expect(refusal(() => cost('image', Number.MAX_SAFE_INTEGER)).code).toBe('invalid_request');
  });
});
