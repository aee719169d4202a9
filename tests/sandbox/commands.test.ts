import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { runCommandLine } from '../../src/sandbox/commands/commandLine.ts';
import type { DeliveryView, SandboxStatus } from '../../src/sandbox/index.ts';
import { catalogue, eventually, receiver, testSandbox } from './support/sandbox.ts';

const dirs: string[] = [];
afterAll(() => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

async function run(...args: string[]) {
  let [out, err] = ['', ''];
  const code = await runCommandLine(args, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

/** A sandbox that serves a data directory, and command lines for it. */
async function served() {
  const dir = mkdtempSync(join(tmpdir(), 'sandbox-commands-'));
  dirs.push(dir);
  const sandbox = await testSandbox({ dataDir: dir, delaySettleMs: 3_600_000 });
  await sandbox.seedCatalogue(catalogue);
  return {
    sandbox,
    dir,
    tell: async (...args: string[]) => {
      const { code, out, err } = await run(...args, '--data-dir', dir);
      expect([code, err]).toEqual([0, '']);
      return out;
    },
    json: async <T>(...args: string[]): Promise<T> => {
      const { out, err } = await run(...args, '--data-dir', dir, '--json');
      expect(err).toBe('');
      return JSON.parse(out) as T;
    },
    refused: async (...args: string[]) => {
      const { code, out, err } = await run(...args, '--data-dir', dir);
      expect([code, out]).toEqual([1, '']);
      return err;
    },
  };
}

describe('the command line', () => {
  it('buys, refunds, disputes and decides', async () => {
    const { sandbox, tell, json } = await served();
    expect(await tell('buy', 'pack_50', '--quantity', '2', '--email', 'ada@example.com')).toMatch(
      /^Bought: cs_test_\w+ is paid\.\n$/,
    );
    expect(await tell('refund', 'last', '--amount', '300')).toMatch(
      /^Refund re_\w+ of 300 usd is succeeded\.\n$/,
    );
    const dispute = await json<{ id: string; amount: number }>('dispute', 'last');
    expect(dispute.amount).toBe(700);
    expect(await tell('decide', dispute.id, 'won')).toBe(`Dispute ${dispute.id} is won.\n`);
    const pending = await json<{ id: string }>('refund', 'last', '--course', 'pending');
    expect(await tell('refund', '--end', pending.id, '--status', 'failed')).toContain('is failed');
    expect(await tell('books')).toMatch(/^The books agree \(\d+ comparisons\)\.\n$/);
    const opened = await json<{ outcome: string; session: { url: string } }>(
      'buy',
      'price_pack_50',
      '--open',
      '--user',
      'u1',
      '--email',
      'eve@example.com',
    );
    expect(opened).toMatchObject({
      outcome: 'open',
      session: {
        url: expect.stringContaining('/c/pay/'),
        client_reference_id: 'u1',
        customer_email: 'eve@example.com',
      },
    });
    expect(await (await fetch(opened.session.url)).text()).toContain('eve@example.com');
    expect(await tell('buy', 'pack_50', '--card', '4000 0000 0000 0002')).toContain('Declined');
    expect((await sandbox.stripe.charges.list()).data).toHaveLength(2);
  });

  it('makes something to buy, lists it, and says what there is when asked for another', async () => {
    const { tell, refused, dir, sandbox } = await served();
    expect(await refused('buy', 'price_x')).toContain(
      "No such price: 'price_x'. To buy: price_plan, price_free, pack_50.",
    );
    expect(await tell('catalogue')).toBe('To buy: price_sample_pack, price_sample_plan.\n');
    const file = join(dir, 'mine.json');
    writeFileSync(file, JSON.stringify({ ...catalogue, prices: [{ id: 'price_mine' }] }));
    expect(await refused('catalogue', file)).toContain('prices.0.product');
    const [product] = catalogue.products;
    const mine = { id: 'price_mine', product: product?.id, currency: 'usd', unit_amount: 700 };
    writeFileSync(file, JSON.stringify({ products: [product], prices: [mine] }));
    expect(await tell('catalogue', file)).toBe('To buy: price_mine.\n');
    writeFileSync(file, '{');
    expect(await refused('catalogue', file)).toContain('is not JSON');
    expect(await tell('list', 'prices', '--limit', '1')).toMatch(
      /^[\dT:-]+ {2}price_mine {2}\$7\.00\n$/,
    );
    await tell('buy', 'price_mine', '--email', 'ada@example.com');
    await tell('buy', 'price_sample_plan', '--email', 'eve@example.com');
    for (const kind of [
      'customers',
      'sessions',
      'charges',
      'subscriptions',
      'invoices',
      'events',
    ]) {
      expect([kind, await tell('list', kind)]).toEqual([kind, expect.stringMatching(/\S {2}\S/)]);
    }
    expect(await tell('list', 'disputes')).toBe('There are no disputes yet.\n');
    expect(await refused('list', 'goods')).toContain('The kind must be one of prices, customers');
    expect((await sandbox.status()).objects).toMatchObject({ prices: 6, subscriptions: 1 });
  });

  it('says so where there is nothing to buy at all', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sandbox-commands-'));
    dirs.push(dir);
    await testSandbox({ dataDir: dir });
    const { code, err } = await run('buy', 'price_x', '--data-dir', dir);
    expect([code, err]).toEqual([1, expect.stringContaining('-- catalogue` makes two samples')]);
  });

  it('lives a subscription: failed payment, another card, pause, renewal and end', async () => {
    const { tell, refused, json } = await served();
    await tell('buy', 'price_plan', '--email', 'ada@example.com');
    const { data } = await json<{ data: { id: string; customer: string }[] }>(
      'list',
      'subscriptions',
    );
    const { id = '', customer = '' } = data[0] ?? {};
    expect(await tell('fail', customer)).toBe(
      `The next payment of ${customer} will be declined.\n`,
    );
    expect(await tell('renew', id)).toMatch(/^Invoice in_\w+ is open, 0 paid\.\n$/);
    const open = await json<{ data: { id: string }[] }>('list', 'invoices', '--limit', '1');
    expect(await tell('card', customer, '4000 0000 0000 0002')).toContain('ends in 0002');
    expect(await tell('pay', open.data[0]?.id ?? '')).toMatch(/ is open, 0 paid\.\n$/);
    expect(await tell('card', customer, '4242424242424242')).toContain('ends in 4242');
    expect(await tell('pay', open.data[0]?.id ?? '')).toMatch(/is paid, 999 paid\.\n$/);
    expect(await tell('pause', id)).toBe(`Subscription ${id} is paused.\n`);
    expect(await tell('resume', id)).toBe(`Subscription ${id} is active.\n`);
    expect(await tell('cancel', id, '--at-period-end')).toMatch(/ ends at 20\d\d-/);
    expect(await tell('cancel', id)).toBe(`Subscription ${id} is canceled.\n`);
    expect(await refused('renew', id)).toContain('canceled');
    const debit = await json<{ session: { id: string } }>(
      'buy',
      'pack_50',
      '--outcome',
      'settles_later',
    );
    expect(await refused('settle', debit.session.id, 'maybe')).toContain('not maybe');
    expect(await tell('settle', debit.session.id, 'failed')).toContain('has failed');
    expect(await tell('books')).toContain('The books agree');
  });

  it('moves the clock, and says whose', async () => {
    const { tell, json } = await served();
    const { now } = await json<{ now: number }>('freeze');
    expect(await json('advance', '10d')).toMatchObject({ done: true, now: now + 864_000 });
    expect(await json('advance', '36h')).toMatchObject({ now: now + 864_000 + 129_600 });
    const told = await tell('advance', '2031-01-31');
    expect(told).toContain('It is 2031-01-31T00:00:00.000Z.');
    expect(told).toContain("Only Stripe's time moves.");
    expect(await tell('flow')).toContain('The clock runs');
  });

  it('breaks deliveries and the API, shows it and mends it', async () => {
    const { sandbox, tell, json } = await served();
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url });
    await tell('break', '--drop', '--types', 'product.created,customer.created', '--times', '1');
    await tell('break', '--api', '500', '--after', '--path', '/v1/customers', '--times', '3');
    expect(await json<SandboxStatus>('status')).toMatchObject({
      faults: [{ drop: true, times: 1 }],
      api_faults: [{ status: 500, carried_out: true, path: '/v1/customers', times: 3 }],
      endpoints: [{ url: hook.url, payload: 'snapshot' }],
    });
    await expect(sandbox.stripe.customers.create({})).rejects.toMatchObject({ statusCode: 500 });
    const [lost] = await json<DeliveryView[]>('deliveries', '--status', 'dropped');
    expect(lost?.event_type).toBe('customer.created');
    expect(await tell('deliveries', '--type', 'customer.created')).toMatch(/^dropped +customer/);
    expect(await tell('mend')).toBe('All is well again.\n');
    expect(await tell('resend', lost?.event ?? '')).toContain('is sent once more');
    await eventually(() => expect(hook.types()).toEqual(['customer.created']));
    expect(await tell('status')).toMatch(/Faults +none/);
  });

  it('says what is wrong and what to do', async () => {
    const { refused, dir } = await served();
    const mistakes: [string[], string][] = [
      [['bye'], 'There is no command bye. Commands: serve, catalogue, list, buy,'],
      [['buy'], '<price> is missing. (--help tells more.)'],
      [['buy', 'price_x'], "No such price: 'price_x'"],
      [['buy', 'pack_50', '--quantity', 'two'], '--quantity must be a number, not two.'],
      [['buy', 'pack_50', '--outcome', 'no'], '--outcome must be one of succeeded, declined'],
      [['buy', 'pack_50', '--open', '--outcome', 'declined'], 'leave outcome out'],
      [['buy', 'pack_50', '--open', '--card', '4242424242424242'], 'leave card_number out'],
      [['advance', 'soon'], 'How far is soon? Say 3h, 10d'],
      [['list', 'prices', '--limit', '0'], '--limit must be a whole number from 1 to 100, not 0.'],
      [['deliveries', '--limit', '-1'], '--limit'],
      [['deliveries', '--limit', '1.5'], '--limit must be a whole number from 1 to 1000, not 1.5.'],
      [['refund', 'last'], 'Nothing has been paid in this sandbox yet'],
      [['refund', '--end', 're_1'], '--end needs --status.'],
      [['refund', 'ch_x'], "No such charge: 'ch_x'"],
      [['decide', 'du_x', 'maybe'], 'The decision must be one of won, lost'],
      [['break'], 'Say what is to break'],
      [['break', '--api', 'no'], '--api must be 429'],
      [['buy', '--nope'], "Unknown option '--nope'"],
    ];
    for (const [args, message] of mistakes) {
      expect([args, await refused(...args)]).toEqual([args, expect.stringContaining(message)]);
    }
    const { code, err } = await run('status', '--data-dir', `${dir}/none`, '--json');
    expect([code, JSON.parse(err)]).toEqual([
      1,
      { error: { message: expect.stringContaining('Start one there with `npm run sandbox`') } },
    ]);
  });

  it('explains every command', async () => {
    const { out } = await run('--help');
    const names = [...out.matchAll(/^ {2}(\w+) +\w/gm)].map(([, name]) => String(name));
    expect(names).toEqual(expect.arrayContaining(['buy', 'refund', 'advance', 'break', 'status']));
    for (const name of names) {
      const help = await run(name, '--help');
      expect([name, help.code, help.out.split('\n')[0]]).toEqual([
        name,
        0,
        expect.stringContaining(`npm run sandbox -- ${name}`),
      ]);
    }
  });
});
