import { describe, expect, it } from '@jest/globals';
import { apiRoutes } from '../../src/sandbox/routes.ts';
import { billingSandbox, subscribed } from './support/billing.ts';
import { paidCharge } from './support/money.ts';

/** Every list of the API that is there, so that a new one is tested without being named. */
const LISTS = apiRoutes
  .filter(({ method, params }) => method === 'GET' && 'starting_after' in params)
  .map(({ pattern }) => pattern)
  // A preview asks for the same lines as a credit note that exists.
  .filter((pattern) => !pattern.includes('preview'));

interface Page {
  readonly data: { id: string }[];
  readonly has_more: boolean;
}

describe('every list', () => {
  it('pages both ways without losing or doubling anything', async () => {
    const sandbox = await billingSandbox({ delaySettleMs: 3_600_000 });
    const { stripe } = sandbox;
    const ask = async (path: string, query: Record<string, string>): Promise<Page> => {
      const { status, body } = await sandbox.call('GET', path, query);
      expect([path, query, status]).toEqual([path, query, 200]);
      return body as unknown as Page;
    };
    let ids: Record<string, string> = {};
    let needed: Record<string, Record<string, string>> = {};
    const items = [1, 2, 3].map((quantity) => ({ price: 'price_pack_50', quantity }));
    for (const name of ['a', 'b', 'c']) {
      const bought = await paidCharge(
        sandbox,
        {},
        { invoice_creation: { enabled: true }, line_items: items },
      );
      const invoice = String(bought.session.invoice);
      const note = await stripe.creditNotes.create({
        invoice,
        refund_amount: 3,
        lines: ['x', 'y', 'z'].map((description) => ({
          type: 'custom_line_item' as const,
          description,
          unit_amount: 1,
        })),
      });
      await sandbox.dispute(bought.charge.id);
      await stripe.coupons.create({ id: name, percent_off: 10, duration: 'once' });
      await stripe.promotionCodes.create({ promotion: { type: 'coupon', coupon: name } });
      const { id: subscription, customer } = await subscribed(sandbox, {
        items: [{ price: 'price_small' }, { price: 'price_big' }, { price: 'price_zero' }],
      });
      await stripe.products.create({ name });
      for (const amount of [100, -50, 25]) {
        await stripe.customers.createBalanceTransaction(String(customer), {
          amount,
          currency: 'usd',
        });
        await stripe.invoiceItems.create({
          customer: String(customer),
          amount: 10,
          currency: 'usd',
        });
      }
      for (const card of ['pm_card_visa', 'pm_card_mastercard', 'pm_card_amex']) {
        await stripe.paymentMethods.attach(card, { customer: String(customer) });
      }
      for (const path of ['x', 'y', 'z']) {
        await stripe.webhookEndpoints.create({
          url: `http://127.0.0.1:9/${path}`,
          enabled_events: ['charge.expired'],
        });
      }
      ids = {
        '/v1/checkout/sessions/:id/line_items': bought.session.id,
        '/v1/invoices/:id/lines': invoice,
        '/v1/credit_notes/:id/lines': note.id,
        '/v1/customers/:id/balance_transactions': String(customer),
        '/v1/customers/:id/payment_methods': String(customer),
      };
      needed = {
        '/v1/events': { type: 'credit_note.*' },
        '/v1/payment_methods': { customer: String(customer) },
        '/v1/subscription_items': { subscription },
        '/v1/subscriptions': { status: 'all' },
      };
    }
    const short: string[] = [];
    for (const pattern of LISTS) {
      const path = pattern.replace(':id', ids[pattern] ?? '');
      const extra = needed[pattern] ?? {};
      const all = await ask(path, { ...extra, limit: '100' });
      const names = all.data.map((item) => item.id);
      expect([pattern, new Set(names).size]).toEqual([pattern, names.length]);
      if (names.length < 3) short.push(pattern);

      const forward: string[] = [];
      for (let more = true; more; ) {
        const last = forward.at(-1);
        const page = await ask(path, {
          ...extra,
          limit: '2',
          ...(last === undefined ? {} : { starting_after: last }),
        });
        forward.push(...page.data.map((item) => item.id));
        more = page.has_more;
      }
      expect([pattern, forward]).toEqual([pattern, names]);

      const end = names.at(-1);
      if (end === undefined) continue;
      const back: string[] = [];
      for (let more = true, before = end; more; ) {
        const page = await ask(path, { ...extra, limit: '2', ending_before: before });
        back.unshift(...page.data.map((item) => item.id));
        before = back[0] ?? before;
        more = page.has_more;
      }
      expect([pattern, back]).toEqual([pattern, names.slice(0, -1)]);

      const both = { ...extra, starting_after: end, ending_before: end };
      for (const wrong of [
        both,
        { ...extra, starting_after: 'nothing' },
        { ...extra, limit: '0' },
      ]) {
        const { status } = await sandbox.call('GET', path, { ...wrong } as never);
        expect([pattern, wrong, status]).toEqual([pattern, wrong, 400]);
      }
    }
    // A list with fewer than three would not have been paged at all.
    expect(short).toEqual([]);
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
  });
});
