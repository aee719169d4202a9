import { mkdtempSync, rmSync } from 'node:fs';
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
    );
    expect(opened).toMatchObject({
      outcome: 'open',
      session: { url: expect.stringContaining('/c/pay/'), client_reference_id: 'u1' },
    });
    expect(await tell('buy', 'pack_50', '--card', '4000 0000 0000 0002')).toContain('Declined');
    expect((await sandbox.stripe.charges.list()).data).toHaveLength(2);
  });

  it('moves the clock', async () => {
    const { tell, json } = await served();
    const { now } = await json<{ now: number }>('freeze');
    expect(await json('advance', '10d')).toMatchObject({ done: true, now: now + 864_000 });
    expect(await json('advance', '36h')).toMatchObject({ now: now + 864_000 + 129_600 });
    expect(await tell('advance', '2031-01-31')).toContain('It is 2031-01-31T00:00:00.000Z.');
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
      [['bye'], 'There is no command bye. Commands: serve, buy,'],
      [['buy'], '<price> is missing. (--help tells more.)'],
      [['buy', 'price_x'], "No such price: 'price_x'"],
      [['buy', 'pack_50', '--quantity', 'two'], '--quantity must be a number, not two.'],
      [['buy', 'pack_50', '--outcome', 'no'], '--outcome must be one of succeeded, declined'],
      [['advance', 'soon'], 'How far is soon? Say 3h, 10d'],
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
