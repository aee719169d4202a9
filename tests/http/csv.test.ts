import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { exportCsv } from '../../src/api/exportCsv.ts';
import { PurserError } from '../../src/core/errors.ts';
import type { TransactionFilter } from '../../src/credits/credits.types.ts';
import type { StatementFilter } from '../../src/credits/explain.types.ts';
import { EMBEDDED_ENV, testApp, transaction } from './support/testApp.ts';

const user = { 'x-user-id': 'u1' };

/** A history of `count` entries, newest first, served in pages as the real domain does. */
function history(count: number, asked: TransactionFilter[] = []) {
  return {
    async transactions(filter: TransactionFilter) {
      asked.push(filter);
      const start = filter.cursor === undefined ? count : Number(filter.cursor);
      const end = Math.max(0, start - filter.limit);
      const data = Array.from({ length: start - end }, (_, index) =>
        transaction({ id: String(start - index), entry_number: start - index }),
      );
      return { data, has_more: end > 0, next_cursor: end > 0 ? String(end) : null };
    },
  };
}

const get = (app: Parameters<typeof request>[0], query = '') =>
  request(app).get(`/api/credits/transactions.csv${query}`).set(user);

describe('the CSV of a history', () => {
  it('is a file with a header line and CRLF', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV });
    const response = await get(app).expect(200);
    expect(response.headers['content-type']).toBe('text/csv; charset=utf-8');
    expect(response.headers['content-disposition']).toContain('credit-transactions.csv');
    expect(response.headers['cache-control']).toBe('no-store');
    expect(response.text).toBe(
      'id,entry_number,created_at,event_at,transaction_type,amount,balance_after,description,' +
        'idempotency_key,reverses,reverses_transaction_id,stripe_session_id,stripe_payment_intent_id,stripe_invoice_id,metadata\r\n' +
        '91,3,2026-11-21T10:00:00.000Z,2026-11-21T10:00:00.000Z,usage,-5,45,,consume:k,,,,,,{}\r\n',
    );
  });

  it.each([
    ['=HYPERLINK("http://evil.test")', `"'=HYPERLINK(""http://evil.test"")"`],
    ['+1', "'+1"],
    ['-1', "'-1"],
    ['@x', "'@x"],
    ['\tx', "'\tx"],
    ['\rx', `"'\rx"`],
    ['a,b', '"a,b"'],
    ['say "hi"', '"say ""hi"""'],
    ['two\nlines', '"two\nlines"'],
    ['two\r\nlines', '"two\r\nlines"'],
    ['<img src=x>', '<img src=x>'],
  ])(
    'writes the description %j so that no spreadsheet runs or splits it',
    async (description, cell) => {
      const { app } = testApp({
        env: EMBEDDED_ENV,
        credits: {
          transactions: async () => ({
            data: [transaction({ description })],
            has_more: false,
            next_cursor: null,
          }),
        },
      });
      expect((await get(app)).text).toContain(`,45,${cell},consume:k,`);
    },
  );

  it('escapes metadata and keys as well', async () => {
    const { app } = testApp({
      env: EMBEDDED_ENV,
      credits: {
        transactions: async () => ({
          data: [transaction({ idempotency_key: '=1+1', metadata: { a: '=1' } })],
          has_more: false,
          next_cursor: null,
        }),
      },
    });
    const { text } = await get(app);
    expect(text).toContain(",'=1+1,");
    expect(text).toContain('"{""a"":""=1""}"');
  });

  it('holds all pages, with the filters on each', async () => {
    const asked: TransactionFilter[] = [];
    const { app } = testApp({ env: EMBEDDED_ENV, credits: history(250, asked) });
    const { text } = await get(app, '?type=usage&from=2026-11-01').expect(200);
    expect(text.trim().split('\r\n')).toHaveLength(251);
    expect(asked.map(({ limit, cursor, type, from }) => [limit, cursor, type, from])).toEqual([
      [100, undefined, 'usage', '2026-11-01T00:00:00.000Z'],
      [100, '150', 'usage', '2026-11-01T00:00:00.000Z'],
      [100, '50', 'usage', '2026-11-01T00:00:00.000Z'],
    ]);
  });

  it('ends a file that is cut off by its bound with the way to go on', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV, credits: history(250) });
    const { text } = await get(app, '?limit=120').expect(200);
    const lines = text.trim().split('\r\n');
    expect(lines).toHaveLength(122);
    expect(lines.at(-1)).toContain('Stopped after 120 rows. Go on with cursor=130');
  });

  it('has no such line when the bound is just reached', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV, credits: history(100) });
    expect((await get(app, '?limit=100')).text).not.toContain('Stopped');
  });

  it('answers an error of the first page as a problem', async () => {
    const { app } = testApp({
      env: EMBEDDED_ENV,
      credits: {
        transactions: () =>
          Promise.reject(new PurserError('user_not_found', { detail: 'No user.' })),
      },
    });
    const response = await get(app).expect(404);
    expect(response.body.code).toBe('user_not_found');
    expect(response.headers['content-disposition']).toBeUndefined();
  });

  it('breaks the connection off when a later page fails: half a file must not look whole', async () => {
    let pages = 0;
    const whole = history(250);
    const { app, log } = testApp({
      env: EMBEDDED_ENV,
      credits: {
        transactions(filter) {
          pages += 1;
          return pages > 2
            ? Promise.reject(new PurserError('dependency_down', { detail: 'gone' }))
            : whole.transactions(filter);
        },
      },
    });
    await expect(get(app).then((response) => response.text)).rejects.toThrow();
    expect(log()).toContain('Answer broken off');
  });

  it('reads no further when the reader is gone', async () => {
    const asked: TransactionFilter[] = [];
    const stream = await exportCsv(history(1_000_000, asked), { userId: 'u1', limit: 100_000 });
    stream.once('data', () => stream.destroy());
    await new Promise((resolve) => stream.once('close', resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked.length).toBeLessThan(10);
  });
});

describe('the CSV of a statement', () => {
  const statement = (app: Parameters<typeof request>[0], query = '') =>
    request(app).get(`/api/credits/statement.csv${query}`).set(user);
  /** A year of `count` entries, oldest first, in pages. */
  const book = (count: number, asked: StatementFilter[] = []) => ({
    async statement(filter: StatementFilter) {
      asked.push(filter);
      const start = Number(filter.cursor ?? 0);
      const end = Math.min(count, start + filter.limit);
      const data = Array.from({ length: end - start }, (_, index) =>
        transaction({ id: String(start + index + 1), entry_number: start + index + 1 }),
      );
      return {
        user_id: filter.userId,
        from: filter.from ?? null,
        to: filter.to ?? '2026-12-01T00:00:00.000Z',
        opening_balance: 7,
        closing_balance: 45,
        totals: [],
        data,
        has_more: end < count,
        next_cursor: end < count ? String(end) : null,
      };
    },
  });

  it('stands between what was there and what is there', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV, explain: book(1) });
    const response = await statement(app, '?from=2026-11-01').expect(200);
    expect(response.headers['content-disposition']).toContain('credit-statement.csv');
    expect(response.text).toBe(
      'created_at,entry_number,transaction_type,amount,balance_after,description,reverses,' +
        'idempotency_key,stripe_session_id,stripe_payment_intent_id,stripe_invoice_id,id\r\n' +
        '2026-11-01T00:00:00.000Z,,opening_balance,,7,,,,,,,\r\n' +
        '2026-11-21T10:00:00.000Z,1,usage,-5,45,,,consume:k,,,,1\r\n' +
        '2026-12-01T00:00:00.000Z,,closing_balance,,45,,,,,,,\r\n',
    );
  });

  it('holds all pages of one and the same span', async () => {
    const asked: StatementFilter[] = [];
    const { app } = testApp({ env: EMBEDDED_ENV, explain: book(2_500, asked) });
    const { text } = await statement(app).expect(200);
    expect(text.trim().split('\r\n')).toHaveLength(2_503);
    expect(asked.map(({ to, cursor }) => [to, cursor])).toEqual([
      [undefined, undefined],
      ['2026-12-01T00:00:00.000Z', '1000'],
      ['2026-12-01T00:00:00.000Z', '2000'],
    ]);
  });

  it('that is cut off by its bound says so and shows no closing balance', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV, explain: book(250) });
    const { text } = await statement(app, '?limit=120');
    expect(text).not.toContain('closing_balance');
    expect(text.trim().split('\r\n').at(-1)).toContain(
      'Stopped after 120 rows. Go on with to=2026-12-01T00:00:00.000Z&cursor=120',
    );
  });
});
