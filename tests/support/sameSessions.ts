/** Every way to be told of a paid session, all at the same moment. */
import { expect } from '@jest/globals';
import { type TestDatabase, userId } from './postgres.ts';
import { eventsOfType } from './purchases.ts';
import { concurrently, countBy } from './sqlCall.ts';
import { type Stack, waitFor } from './stack.ts';

/** Purchases that are told of at the same time; each in six ways. */
const AT_ONCE = 4;
const CREDITS = 50;

/**
 * Buys so many sessions; the webhook, its copy, its invoice, the success page twice and the event
 * under another id (as somebody replays it by hand) then come together. Each is granted once.
 */
export async function settleEverySession(
  stack: Stack,
  database: TestDatabase,
  sessions: number,
): Promise<void> {
  const users = Math.ceil(sessions / 4);
  const userOf = (purchase: number) => userId(`told-${purchase % users}`);
  const ids: string[] = [];
  for (let purchase = 0; purchase < sessions; purchase += 1) {
    const bearer = await stack.token(userOf(purchase));
    const body = { plan: 'pack_50' };
    const answer = await stack.call('POST', '/api/checkout-session', { bearer, body });
    expect(answer.status).toBe(200);
    await stack.sandbox.pay(answer.body.session_id);
    ids.push(answer.body.session_id);
  }
  const completed = await eventsOfType(stack.stripe, 'checkout.session.completed');
  const invoices = await eventsOfType(stack.stripe, 'invoice.paid');
  const fulfilled: string[] = [];
  let next = 0;
  await concurrently(AT_ONCE, async () => {
    for (let purchase = next++; purchase < sessions; purchase = next++) {
      const event = completed.get(ids[purchase] ?? '');
      const session = event?.data.object as { invoice?: string } | undefined;
      const bearer = await stack.token(userOf(purchase));
      const fulfill = async () => {
        const path = `/api/checkout-session/${ids[purchase]}/fulfill`;
        const { status, body } = await stack.call('POST', path, { bearer });
        fulfilled.push(`${status} ${body.status}`);
      };
      const deliver = async (what: unknown) => {
        const { status } = await stack.deliver(what);
        expect(status).toBe(200);
      };
      await Promise.all([
        deliver(event),
        fulfill(),
        deliver({ ...event, id: `${event?.id}_replayed` }),
        fulfill(),
        deliver(event),
        deliver(invoices.get(session?.invoice ?? '')),
      ]);
    }
  });
  expect(countBy(fulfilled)).toEqual({ '200 credited': sessions * 2 });
  await waitFor(
    async () => {
      const [row] = await database.query<{ open: number }>(
        `select count(*)::int as open from stripe_webhook_events where status <> 'processed'`,
      );
      return row?.open === 0;
    },
    'every event to be processed',
    60,
  );

  const [book] = await database.query(
    `select count(*)::int as entries, count(distinct stripe_session_id)::int as sessions,
            sum(amount)::int as credits, (select count(*)::int from credit_sources) as sources,
            (select count(*)::int from payments) as payments,
            (select count(*)::int from reconciliation_findings) as findings,
            (select count(*)::int from stripe_webhook_events) as events
     from credit_transactions where stripe_session_id is not null`,
  );
  expect(book).toEqual({
    entries: sessions,
    sessions,
    credits: sessions * CREDITS,
    sources: sessions * 3,
    payments: sessions,
    findings: 0,
    events: sessions * 3,
  });
  expect(await database.query('select * from validate_credits_consistency()')).toEqual([]);
}
