import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { type Answer, callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

let count = 0;
let user = '';
beforeEach(async () => {
  count += 1;
  user = userId(`explained-${count}`);
  await call('ensure_user', { p_user_id: user });
});

const grant = (key: string, at: string, fields: Record<string, Json>) =>
  call('grant_credits', {
    p_user_id: user,
    p_type: 'purchase',
    p_key: key,
    p_lots: [{ credits: 50 }],
    p_now: at,
    ...fields,
  });
const consume = (key: string, amount: number, at: string, description?: string) =>
  call('consume_credits', {
    p_user_id: user,
    p_amount: amount,
    p_key: key,
    p_description: description,
    p_now: at,
  });
const explain = (at?: string, limit?: number) =>
  call('explain_credit_balance', { p_user_id: user, p_at: at, p_limit: limit });
const balanceAt = (at: string) => call('get_credit_balance_at', { p_user_id: user, p_at: at });
const statement = (fields: Record<string, Json> = {}) =>
  call('get_credit_statement', { p_user_id: user, ...fields });

/** A story of three weeks: pack, bonus that expires, two spends. */
async function story(): Promise<string[]> {
  const pack = await grant(`checkout:cs_${count}`, '2026-11-01T10:00:00Z', {
    p_sources: [`checkout:cs_${count}`, `payment:pi_${count}`],
    p_lots: [{ credits: 50, catalogue_id: 'pack_50', cost_amount: 500, cost_currency: 'usd' }],
    p_stripe_session_id: `cs_${count}`,
  });
  const bonus = await grant('grant:welcome', '2026-11-02T10:00:00Z', {
    p_type: 'bonus',
    p_lots: [{ credits: 10, expires_at: '2026-11-12T10:00:00Z' }],
    p_description: 'Welcome credits',
  });
  await consume('a', 7, '2026-11-03T10:00:00Z', 'image');
  await consume('b', 4, '2026-11-04T10:00:00Z');
  const lots = await database.current.query<{ id: string }>(
    'select id from credit_grants where user_id = $1 order by id',
    [user],
  );
  expect([pack.outcome, bonus.outcome]).toEqual(['applied', 'applied']);
  return lots.map(({ id }) => id);
}

describe('an explanation', () => {
  it('tells the whole story, in data and in sentences', async () => {
    const [pack, bonus] = await story();
    const answer = await explain('2026-11-05T00:00:00Z');
    expect(answer).toEqual({
      outcome: 'found',
      user_id: user,
      closed: false,
      at: '2026-11-05T00:00:00.000Z',
      balance: 49,
      held: 0,
      available: 49,
      debt: 0,
      expired_unwritten: 0,
      entries: 4,
      truncated: false,
      lots: [
        {
          grant_id: pack,
          entry_number: 1,
          type: 'purchase',
          amount: 50,
          remaining: 49,
          expired_unwritten: 0,
          paid: true,
          from_plan: false,
          priority: 100,
          expires_at: null,
          created_at: '2026-11-01T10:00:00.000Z',
          cost_amount: 500,
          cost_currency: 'usd',
          catalogue_id: 'pack_50',
          price_id: null,
          sources: [`checkout:cs_${count}`, `payment:pi_${count}`],
          story: [
            { entry_number: 1, type: 'purchase', amount: 50, at: '2026-11-01T10:00:00.000Z' },
            { entry_number: 4, type: 'usage', amount: -1, at: '2026-11-04T10:00:00.000Z' },
          ],
        },
        {
          grant_id: bonus,
          entry_number: 2,
          type: 'bonus',
          amount: 10,
          remaining: 0,
          expired_unwritten: 0,
          paid: false,
          from_plan: false,
          priority: 100,
          expires_at: '2026-11-12T10:00:00.000Z',
          created_at: '2026-11-02T10:00:00.000Z',
          cost_amount: null,
          cost_currency: null,
          catalogue_id: null,
          price_id: null,
          sources: [],
          story: [
            { entry_number: 2, type: 'bonus', amount: 10, at: '2026-11-02T10:00:00.000Z' },
            { entry_number: 3, type: 'usage', amount: -7, at: '2026-11-03T10:00:00.000Z' },
            { entry_number: 4, type: 'usage', amount: -3, at: '2026-11-04T10:00:00.000Z' },
          ],
        },
      ],
      debts: [],
      holds: [],
      expiring: [],
      stripe: [
        { source: `checkout:cs_${count}`, entry_number: 1, at: '2026-11-01T10:00:00.000Z' },
        { source: `payment:pi_${count}`, entry_number: 1, at: '2026-11-01T10:00:00.000Z' },
      ],
      sentences: [
        `2026-11-01 10:00 UTC: bought pack_50, +50 credits (checkout session cs_${count} and payment pi_${count}), balance 50.`,
        '2026-11-02 10:00 UTC: bonus "Welcome credits", +10 credits, expiring 2026-11-12 10:00 UTC, balance 60.',
        `2026-11-03 10:00 UTC: spent 7 credits on "image", from lot ${bonus}, balance 53.`,
        `2026-11-04 10:00 UTC: spent 4 credits, from lot ${bonus} (3) and lot ${pack} (1), balance 49.`,
        `2026-11-05 00:00 UTC: the balance is 49 credits (49 of 50 in lot ${pack}); 49 can be spent.`,
      ],
    });
  });

  it('of a past instant knows nothing of what came later', async () => {
    const [pack, bonus] = await story();
    const answer = await explain('2026-11-03T12:00:00Z');
    expect(answer).toMatchObject({
      balance: 53,
      entries: 3,
      lots: [
        {
          grant_id: bonus,
          remaining: 3,
          story: [expect.anything(), { entry_number: 3, amount: -7 }],
        },
        { grant_id: pack, remaining: 50, story: [expect.anything()] },
      ],
      expiring: [{ grant_id: bonus, credits: 3, expires_at: '2026-11-12T10:00:00.000Z' }],
    });
    expect(answer.sentences.slice(-2)).toEqual([
      `2026-11-03 12:00 UTC: the balance is 53 credits (3 of 10 in lot ${bonus} and 50 of 50 in lot ${pack}); 53 can be spent.`,
      `2026-11-12 10:00 UTC: 3 credits of lot ${bonus} will expire unless spent before.`,
    ]);
  });

  it('of a future instant takes off what expires until then, and writes nothing', async () => {
    const key = `grant:${count}`;
    await grant(key, '2026-11-01T10:00:00Z', {
      p_lots: [{ credits: 10, expires_at: '2031-01-01T00:00:00Z' }, { credits: 5 }],
    });
    const answer = await explain('2031-01-02T00:00:00Z');
    expect(answer).toMatchObject({ balance: 5, available: 5, expired_unwritten: 10, entries: 1 });
    expect(answer.sentences.at(-2)).toMatch(
      /^2031-01-02 00:00 UTC: 10 credits of lot \d+ are due since 2031-01-01 00:00 UTC and count as expired/,
    );
    expect(await call('get_credit_balance', { p_user_id: user })).toMatchObject({
      balance: 15,
      version: 1,
    });
  });

  it('says what is left out, and what the balance was before', async () => {
    await story();
    const answer = await explain('2026-11-05T00:00:00Z', 1);
    expect(answer).toMatchObject({ entries: 4, truncated: true });
    expect(answer.sentences).toHaveLength(3);
    expect(answer.sentences[0]).toBe(
      '3 earlier entries are left out; the balance after them was 53.',
    );
  });

  it('says how many lots it does not name', async () => {
    for (let n = 1; n <= 12; n += 1) {
      await grant(`grant:${n}`, '2026-11-01T10:00:00Z', { p_lots: [{ credits: 2 }] });
    }
    await consume('all but one', 23, '2026-11-02T10:00:00Z');
    const spent = (await explain()).sentences[12];
    expect(spent).toMatch(
      /^2026-11-02 10:00 UTC: spent 23 credits, from lot \d+ \(2\), (lot \d+ \(2\), ){8}lot \d+ \(2\) and 2 more lots \(3\), balance 1\.$/,
    );
    const before = (await explain('2026-11-01T12:00:00Z')).sentences.at(-1);
    expect(before).toMatch(
      /^2026-11-01 12:00 UTC: the balance is 24 credits \((2 of 2 in lot \d+, ){9}2 of 2 in lot \d+ and 4 in 2 more lots\); 24 can be spent\.$/,
    );
  });

  it('keeps what people wrote on one line and in its bounds', async () => {
    await grant('grant:x', '2026-11-01T10:00:00Z', {
      p_type: 'bonus',
      p_description: `two\nlines ${'x'.repeat(300)}`,
    });
    const [sentence] = (await explain()).sentences;
    expect(sentence).toMatch(/^2026-11-01 10:00 UTC: bonus "two lines x{109}…", \+50 credits/);
  });

  it('of an empty account says so', async () => {
    const answer = await explain('2026-11-05T00:00:00Z');
    expect(answer).toMatchObject({ balance: 0, entries: 0, lots: [], stripe: [] });
    expect(answer.sentences).toEqual([
      '2026-11-05 00:00 UTC: the balance is 0 credits; 0 can be spent.',
    ]);
  });

  it('of a closed account stays; of nobody there is none', async () => {
    await story();
    await database.current.query('delete from users where id = $1', [user]);
    expect(await explain('2026-11-05T00:00:00Z')).toMatchObject({ closed: true, balance: 49 });
    const nobody = userId('nobody');
    for (const name of [
      'explain_credit_balance',
      'get_credit_balance_at',
      'get_credit_statement',
    ]) {
      expect(await call(name, { p_user_id: nobody })).toEqual({
        outcome: 'not_found',
        user_id: nobody,
      });
    }
  });
});

describe('a statement', () => {
  it('opens, lists and closes a span, oldest first, with totals by type', async () => {
    await story();
    const answer = await statement({
      p_from: '2026-11-02T00:00:00Z',
      p_to: '2026-11-04T10:00:00Z',
    });
    expect(answer).toMatchObject({
      from: '2026-11-02T00:00:00.000Z',
      to: '2026-11-04T10:00:00.000Z',
      opening_balance: 50,
      closing_balance: 53,
      totals: [
        { transaction_type: 'bonus', entries: 1, amount: 10 },
        { transaction_type: 'usage', entries: 1, amount: -7 },
      ],
      has_more: false,
      next_after_entry: null,
    });
    expect(answer.data.map((row: Answer) => [row.entry_number, row.balance_after])).toEqual([
      [2, 60],
      [3, 53],
    ]);
  });

  it('comes in pages that tell the same of the span', async () => {
    await story();
    const rows: number[] = [];
    let opening = 0;
    for (let after: Json = null; ; ) {
      const page: Answer = await statement({ p_limit: 1, p_after_entry: after });
      expect(page).toMatchObject({ opening_balance: 0, closing_balance: 49 });
      opening = page.opening_balance + 0;
      rows.push(...page.data.map((row: Answer) => row.amount));
      if (!page.has_more) break;
      after = page.next_after_entry;
    }
    expect(rows).toEqual([50, 10, -7, -4]);
    expect(rows.reduce((sum, amount) => sum + amount, opening)).toBe(49);
  });

  it('of a span without entries opens and closes alike', async () => {
    await story();
    expect(
      await statement({ p_from: '2026-11-10T00:00:00Z', p_to: '2026-11-11T00:00:00Z' }),
    ).toMatchObject({ opening_balance: 49, closing_balance: 49, totals: [], data: [] });
    expect(
      await statement({ p_from: '2020-01-01T00:00:00Z', p_to: '2021-01-01T00:00:00Z' }),
    ).toMatchObject({ opening_balance: 0, closing_balance: 0, totals: [], data: [] });
  });
});

/** What get_credit_balance answers then, taken back. */
async function withoutTrace(moment: string): Promise<Answer> {
  const undone = new Error('undone');
  let answer: Answer = {};
  await database.current
    .asRole('service_role', {}, async (client) => {
      const sql = 'select get_credit_balance($1, $2) as answer';
      answer = (await client.query(sql, [user, moment])).rows[0].answer;
      throw undone;
    })
    .catch((error: unknown) => {
      if (error !== undone) throw error;
    });
  return answer;
}

/** A small generator of its own, so that a failing seed can be run again. */
function numbers(seed: number): (max: number) => number {
  let state = seed >>> 0;
  return (max) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * max);
  };
}

describe('a balance as of an instant', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'is the one that was answered then, in the random history of seed %i',
    async (seed) => {
      const next = numbers(seed);
      const start = Date.parse('2026-01-01T00:00:00Z');
      const day = 86_400_000;
      const at = (days: number) => new Date(start + days * day).toISOString();
      const answered: { at: string; answer: Answer }[] = [];
      const holds: string[] = [];
      const spent: string[] = [];
      let version = 0;
      for (let today = 1; today <= 40; today += 1) {
        const now = at(today);
        const kind = next(9);
        if (kind === 0) {
          const lots = Array.from({ length: 1 + next(3) }, () => ({
            credits: 1 + next(20),
            ...(next(2) ? { expires_at: at(today + next(12) - 1) } : {}),
          }));
          await grant(`grant:${today}`, now, { p_type: 'bonus', p_lots: lots });
        } else if (kind === 1 && version === 0) {
          const payment = `pi_${user}`;
          await grant(`payment:${payment}`, now, {
            p_sources: [`payment:${payment}`],
            p_payments: [{ payment, paid: 100, currency: 'usd' }],
          });
          version = 1;
        } else if (kind === 2 && version > 0) {
          const state = { p_payment: `pi_${user}`, p_version: version, p_paid: 100, p_disputed: 0 };
          const answer = await call('set_payment_state', {
            ...state,
            p_refunded: next(101),
            p_now: now,
          });
          version = answer.version;
        } else if (kind === 3) {
          const { hold_id } = await call('hold_credits', {
            p_user_id: user,
            p_amount: 1 + next(12),
            p_key: `h${today}`,
            p_expires_in_seconds: 86_400 * (1 + next(8)),
            p_now: now,
          });
          if (hold_id) holds.push(hold_id);
        } else if (kind === 4 && holds.length > 0) {
          const hold = holds[next(holds.length)] as string;
          const amount = 1 + next(6);
          const verb = next(4) === 0 ? 'release_hold' : 'capture_hold';
          await call(verb, {
            p_hold_id: hold,
            ...(verb === 'capture_hold' ? { p_key: `c${today}`, p_amount: amount } : {}),
            p_now: now,
          });
        } else if (kind === 5 && spent.length > 0) {
          await call('refund_usage', {
            p_user_id: user,
            p_transaction_id: spent[next(spent.length)] as string,
            p_key: `r${today}`,
            p_amount: 1 + next(4),
            p_now: now,
          });
        } else {
          const answer = await consume(`k${today}`, 1 + next(15), now);
          if (answer.outcome === 'applied') spent.push(answer.transaction_id);
        }
        const moment = at(today + 0.5);
        // Half of the time the asking leaves no trace, so that expiry is written later than due.
        const answer =
          next(2) === 0
            ? await call('get_credit_balance', { p_user_id: user, p_now: moment })
            : await withoutTrace(moment);
        answered.push({ at: moment, answer });
      }
      for (const { at: moment, answer } of answered) {
        const { balance, held, available, debt } = answer;
        expect(await balanceAt(moment)).toMatchObject({ balance, held, available, debt });
        const explained = await explain(moment);
        expect(explained).toMatchObject({ balance, held, available });
        const left = explained.lots.reduce((sum: number, lot: Answer) => sum + lot.remaining, 0);
        expect(left - explained.debt).toBe(balance);
      }
      // The future, from here: what the ledger will answer then.
      const later = at(60);
      const foretold = await balanceAt(later);
      const { balance, available } = await call('get_credit_balance', {
        p_user_id: user,
        p_now: later,
      });
      expect(foretold).toMatchObject({ balance, available });

      for (let n = 0; n < 10; n += 1) {
        const from = at(next(40));
        const page = await statement({ p_from: from, p_to: later, p_limit: 1000 });
        const sum = page.data.reduce((total: number, row: Answer) => total + row.amount, 0);
        expect(page.opening_balance + sum).toBe(page.closing_balance);
      }
      expect(await database.current.query('select * from validate_credits_consistency()')).toEqual(
        [],
      );
    },
    60_000,
  );
});
