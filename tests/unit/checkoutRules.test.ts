import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type InvoicePart, invoiceCredits } from '../../src/checkout/invoiceCredits.ts';
import { paymentsOfInvoice } from '../../src/checkout/invoicePayments.ts';
import { checkReturnUrl } from '../../src/checkout/returnUrl.ts';
import type { SettlementDeps } from '../../src/checkout/settlement.ts';
import { settleSession } from '../../src/checkout/settleSession.ts';
import { retryDelaySeconds } from '../../src/core/backoff.ts';
import { storableJson } from '../../src/core/storableJson.ts';
import { cursorOfEntry, entryOfCursor } from '../../src/credits/transactionCursor.ts';

describe('a session', () => {
  // Words the sandbox has none of: mode setup, and a status of a later version.
  it.each<[string, Record<string, unknown>, object[]]>([
    [
      'of mode setup sells nothing',
      { mode: 'setup', status: 'complete', payment_status: 'no_payment_required' },
      [{ kind: 'ignore', reason: 'a session of mode setup sells nothing' }],
    ],
    [
      'of a status nobody knows is worth nothing yet',
      { mode: 'payment', status: 'reviewed', payment_status: 'paid' },
      [],
    ],
    ['without a status is worth nothing yet', { mode: 'payment', status: null }, []],
  ])('%s', async (_what, fields, effects) => {
    const deps = {
      stripe: { checkout: { sessions: { retrieve: async () => ({ id: 'cs_1', ...fields }) } } },
    } as unknown as SettlementDeps;
    expect((await settleSession(deps, 'cs_1', new Date())).effects).toEqual(effects);
  });
});

describe('what paid for an invoice', () => {
  const invoice = (starting: number, ending: number | null) => ({
    id: 'in_1',
    currency: 'usd',
    starting_balance: starting,
    ending_balance: ending,
  });
  const by = (payment: Record<string, string>, amount = 500) => ({
    amount_paid: amount,
    currency: 'usd',
    payment: payment as never,
  });
  const paid = (payment: string, amount: number) => ({ payment, paid: amount, currency: 'usd' });

  it.each<[string, Parameters<typeof paymentsOfInvoice>, ReturnType<typeof paymentsOfInvoice>]>([
    [
      'a payment intent',
      [invoice(0, 0), [by({ type: 'payment_intent', payment_intent: 'pi_1' })]],
      [paid('pi_1', 500)],
    ],
    [
      'a charge without an intent',
      [invoice(0, 0), [by({ type: 'charge', charge: 'ch_1' })]],
      [paid('ch_1', 500)],
    ],
    [
      'a payment made elsewhere',
      [invoice(0, 0), [by({ type: 'payment_record', payment_record: 'prec_1' })]],
      [paid('prec_1', 500)],
    ],
    [
      'two payments, one of them in two parts',
      [
        invoice(0, 0),
        [
          by({ type: 'payment_intent', payment_intent: 'pi_1' }, 100),
          by({ type: 'payment_intent', payment_intent: 'pi_2' }, 200),
          by({ type: 'payment_intent', payment_intent: 'pi_1' }, 300),
        ],
      ],
      [paid('pi_1', 400), paid('pi_2', 200)],
    ],
    ['customer balance, all of it', [invoice(-500, 0), []], [paid('balance:in_1', 500)]],
    ['customer balance, a part', [invoice(-500, -200), []], [paid('balance:in_1', 300)]],
    ['a debt of the customer that it collected', [invoice(300, 0), []], []],
    ['a credit that it made', [invoice(0, -300), []], []],
    ['a balance that was not settled yet', [invoice(-500, null), []], []],
    ['nothing', [invoice(0, 0), []], []],
  ])('%s', (_what, [of, payments], expected) => {
    expect(paymentsOfInvoice(of, payments)).toEqual(expected);
  });
});

const part = (fields: Partial<InvoicePart>): InvoicePart => ({
  credits: 30,
  amount: 999,
  unitAmount: 999,
  quantity: 1,
  proration: false,
  ...fields,
});

describe('credits of an invoice', () => {
  it.each<[string, InvoicePart[], number]>([
    ['one unit', [part({})], 30],
    ['three seats', [part({ amount: 2997, quantity: 3 })], 90],
    ['half a month', [part({ amount: 500, proration: true })], 15],
    [
      'an upgrade: the rest of the old month back, the rest of the new one charged',
      [
        part({ amount: -499, proration: true }),
        part({ credits: 200, amount: 1499, unitAmount: 2999, proration: true }),
      ],
      84,
    ],
    [
      'a downgrade ends at zero, not below',
      [part({ credits: 200, amount: -1499, unitAmount: 2999, proration: true })],
      0,
    ],
    ['a trial line of zero', [part({ amount: 0 })], 0],
    ['a price that is free', [part({ amount: 0, unitAmount: 0, quantity: 2 })], 60],
    ['a tiered price', [part({ amount: 1234, unitAmount: null, quantity: 4 })], 120],
    ['a proration of a free price', [part({ amount: 0, unitAmount: 0, proration: true })], 0],
    [
      'thirds that make a whole: one floor at the end',
      Array.from({ length: 3 }, () => part({ credits: 1, amount: 1, unitAmount: 3 })),
      1,
    ],
    ['nothing', [], 0],
  ])('%s', (_what, parts, credits) => {
    expect(invoiceCredits(parts)).toBe(credits);
  });

  it('never gives more than the money pays for, at any split', () => {
    const parts = fc.array(
      fc.record({
        credits: fc.integer({ min: 1, max: 1000 }),
        amount: fc.integer({ min: -5000, max: 5000 }),
        unitAmount: fc.integer({ min: 1, max: 5000 }),
        quantity: fc.constant(1),
        proration: fc.boolean(),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(parts, (lines) => {
        const exact = lines.reduce(
          (sum, line) => sum + (line.credits * line.amount) / line.unitAmount,
          0,
        );
        const credits = invoiceCredits(lines);
        expect(credits).toBeGreaterThanOrEqual(0);
        expect(credits).toBeLessThanOrEqual(Math.max(0, exact) + 1e-6);
        expect(credits).toBeGreaterThan(Math.max(0, exact) - 1 - 1e-6);
      }),
    );
  });
});

describe('a return URL', () => {
  const origins = ['http://127.0.0.1:3000', 'https://app.example.com'];

  it.each([
    'http://127.0.0.1:3000/success?session_id={CHECKOUT_SESSION_ID}',
    'https://app.example.com/done#top',
  ])('is taken as given: %s', (url) => {
    expect(checkReturnUrl('success_url', url, origins)).toBe(url);
  });

  it.each([
    'https://evil.test/',
    '//evil.test',
    '/success',
    'https://app.example.com@evil.test/',
    'https://app.example.com.evil.test/',
    'https://user:pass@app.example.com/',
    'http://app.example.com/',
    'javascript:alert(1)',
    'https:\\\\app.example.com',
    'https://app.example.com/\r\nLocation: https://evil.test',
    'https://app.example.com/a b',
    '',
    `https://app.example.com/${'a'.repeat(2100)}`,
  ])('is refused: %j', (url) => {
    expect(() => checkReturnUrl('success_url', url, origins)).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        message: expect.stringContaining('success_url'),
      }),
    );
  });
});

describe('waits between attempts', () => {
  it('cover more than 24 hours with the least jitter, then give up', () => {
    const waits = Array.from({ length: 9 }, (_, index) => retryDelaySeconds(index + 1, () => 0));
    expect(waits.every((wait) => wait !== null)).toBe(true);
    expect(waits.reduce<number>((sum, wait) => sum + (wait ?? 0), 0)).toBeGreaterThan(24 * 3600);
    expect(retryDelaySeconds(10, () => 0)).toBeNull();
  });

  it('spread by a tenth both ways', () => {
    expect(retryDelaySeconds(1, () => 0)).toBe(4.5);
    expect(retryDelaySeconds(1, () => 0.999_999)).toBeCloseTo(5.5, 3);
  });
});

describe('a cursor', () => {
  it('survives the way to the caller and back', () => {
    for (const entry of [1, 42, Number.MAX_SAFE_INTEGER]) {
      expect(entryOfCursor(cursorOfEntry(entry))).toBe(entry);
    }
  });

  it.each([
    '',
    'abc',
    'ZW50cnk6MA',
    `${cursorOfEntry(7)}x`,
    cursorOfEntry(7).slice(1),
    'ZW50cnk6LTE',
  ])('of foreign make is refused: %j', (cursor) => {
    expect(() => entryOfCursor(cursor)).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    );
  });
});

describe('storable JSON', () => {
  it('keeps everything but NUL and lone surrogates', () => {
    expect(storableJson({ 'a\u0000': ['\uD800x', 'é😀', 1, null, true], gone: undefined })).toEqual(
      {
        'a\uFFFD': ['\uFFFDx', 'é😀', 1, null, true],
      },
    );
  });

  it('is the value itself where nothing in it has to be replaced', () => {
    const payload = JSON.parse('{"__proto__": {"a": [1, "é😀", null]}, "b": {}}');
    expect(storableJson(payload)).toBe(payload);
    expect(JSON.stringify(storableJson(payload))).toBe('{"__proto__":{"a":[1,"é😀",null]},"b":{}}');
  });

  it('is never deeper than 200, whatever it holds', () => {
    const nested = (levels: number, inside: unknown): unknown =>
      levels === 0 ? inside : [nested(levels - 1, inside)];
    for (const inside of [1, 'a\u0000']) {
      expect(() => storableJson(nested(200, inside))).not.toThrow();
      expect(() => storableJson(nested(201, inside))).toThrow(
        expect.objectContaining({ code: 'invalid_request' }),
      );
    }
  });
});
