import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from '@jest/globals';
import { joinOrStartSandbox, startSandbox } from '../../src/sandbox/index.ts';
import { claim, readOwner } from '../../src/sandbox/ownership.ts';
import {
  eventually,
  openSession,
  receiver,
  refusingUrl,
  stripeFor,
  testSandbox,
  track,
} from './support/sandbox.ts';

const SERVE = fileURLToPath(new URL('./support/serve.ts', import.meta.url));
const children: ChildProcess[] = [];
const dirs: string[] = [];

function dataDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sandbox-'));
  dirs.push(dir);
  return dir;
}

async function serve(dir: string, delaySettleMs = 60_000) {
  const child = spawn(process.execPath, ['--import', 'tsx', SERVE, dir, String(delaySettleMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const report = JSON.parse(line) as { origin: string; joined: boolean; secretKey: string };
  const { hostname, port } = new URL(report.origin);
  const stripe = stripeFor({ secretKey: report.secretKey, host: hostname, port: Number(port) });
  return { child, stripe, ...report };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

describe('a data directory', () => {
  it('keeps objects, keys, endpoints and saved answers over SIGKILL, and settles what was on its way', async () => {
    const dir = dataDir();
    const first = await serve(dir);
    const customer = await first.stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k1' });
    const product = await first.stripe.products.create({ name: '50 credits' });
    const price = await first.stripe.prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: 500,
    });
    const open = {
      mode: 'payment' as const,
      line_items: [{ price: price.id, quantity: 1 }],
      success_url: 'http://127.0.0.1/ok',
      customer: customer.id,
      customer_email: undefined,
    };
    const { customer_email: _none, ...params } = open;
    const session = await first.stripe.checkout.sessions.create(params);
    const post = { method: 'POST', headers: { 'content-type': 'application/json' } };
    const paid = await fetch(`${first.origin}/_sandbox/checkout/sessions/${session.id}/pay`, {
      ...post,
      body: '{"outcome":"settles_later"}',
    });
    expect(paid.status).toBe(200);
    await kill(first.child);

    const second = await testSandbox({ dataDir: dir });
    expect(second.origin).toBe(first.origin);
    expect(second.secretKey).toBe(first.secretKey);
    const again = await second.stripe.customers.create({ name: 'Ada' }, { idempotencyKey: 'k1' });
    expect(again.id).toBe(customer.id);
    expect((await second.stripe.checkout.sessions.list()).data).toMatchObject([
      { id: session.id, payment_status: 'unpaid' },
    ]);
    await second.settle(session.id);
    expect(await second.stripe.checkout.sessions.retrieve(session.id)).toMatchObject({
      payment_status: 'paid',
    });
    expect(statSync(join(dir, 'secrets.json')).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, 'journal.jsonl')).mode & 0o777).toBe(0o600);
  });

  it('goes on with deliveries that were not taken', async () => {
    const dir = dataDir();
    const down = await refusingUrl();
    const before = track(await startSandbox({ dataDir: dir, retryScheduleMs: [3_600_000] }));
    await before.ensureWebhookEndpoint({ url: down, name: 'app' });
    await stripeFor(before).customers.create({});
    await eventually(async () =>
      expect((await before.deliveries())[0]?.attempts.length).toBeGreaterThan(0),
    );
    await before.stop();
    const hook = await receiver();
    const after = await testSandbox({ dataDir: dir });
    await after.ensureWebhookEndpoint({ url: hook.url, name: 'app' });
    await after.advance({ hours: 1 });
    expect(hook.types()).toEqual(['customer.created']);
  });

  it('forgets a line the process was killed in, and only that', async () => {
    const dir = dataDir();
    const before = track(await startSandbox({ dataDir: dir }));
    const { id } = await stripeFor(before).customers.create({ name: 'Ada' });
    await before.stop();
    appendFileSync(join(dir, 'journal.jsonl'), '[["put","customers",{"id":"cus_torn","vi');
    const after = await testSandbox({ dataDir: dir });
    expect((await after.stripe.customers.list()).data.map((customer) => customer.id)).toEqual([id]);
  });

  it('says which line is damaged instead of starting with half of the state', async () => {
    const dir = dataDir();
    writeFileSync(join(dir, 'journal.jsonl'), '[]\n{broken\n[]\n');
    await expect(startSandbox({ dataDir: dir })).rejects.toThrow('damaged in line 2');
    rmSync(join(dir, 'journal.jsonl'));
    await testSandbox({ dataDir: dir });
  });

  it('is compacted at the start without losing the order of lists', async () => {
    const dir = dataDir();
    const before = track(await startSandbox({ dataDir: dir }));
    const stripe = stripeFor(before);
    const ids: string[] = [];
    for (let count = 0; count < 3; count += 1) ids.unshift((await stripe.customers.create({})).id);
    for (let count = 0; count < 20; count += 1)
      await stripe.customers.update(ids[2] as string, { name: `n${count}` });
    await before.stop();
    const lines = () => readFileSync(join(dir, 'journal.jsonl'), 'utf8').split('\n').length;
    const long = lines();
    const after = await testSandbox({ dataDir: dir });
    expect(lines()).not.toBe(long);
    expect((await after.stripe.customers.list()).data.map(({ id }) => id)).toEqual(ids);
  });

  it('moves links of open sessions to the port of the new start', async () => {
    const dir = dataDir();
    const before = track(await startSandbox({ dataDir: dir }));
    const session = await openSession(
      Object.assign(before, { stripe: stripeFor(before) }) as never,
    );
    await before.stop();
    const squatter = await testSandbox({ port: before.port });
    const after = await testSandbox({ dataDir: dir });
    expect(after.port).not.toBe(squatter.port);
    const found = await after.stripe.checkout.sessions.retrieve(session.id);
    expect(found.url).toBe(`${after.origin}/c/pay/${session.id}`);
  });

  it('is refused to a second sandbox that does not want to share', async () => {
    const dir = dataDir();
    const first = await testSandbox({ dataDir: dir });
    await expect(startSandbox({ dataDir: dir })).rejects.toThrow(
      `already serves ${dir} at ${first.origin}`,
    );
  });
});

describe('joining', () => {
  it('shares one sandbox between processes', async () => {
    const dir = dataDir();
    const [one, two, three] = await Promise.all([serve(dir), serve(dir), serve(dir)]);
    expect([one, two, three].filter(({ joined }) => !joined)).toHaveLength(1);
    expect(new Set([one.origin, two.origin, three.origin]).size).toBe(1);
    expect(new Set([one.secretKey, two.secretKey, three.secretKey]).size).toBe(1);
    const { id } = await one.stripe.customers.create({});
    expect((await three.stripe.customers.retrieve(id)).id).toBe(id);
  });

  it('takes over on the same port with the same state when the owner is killed', async () => {
    const dir = dataDir();
    const owner = await serve(dir);
    const { id } = await owner.stripe.customers.create({ name: 'Ada' });
    const [mine, other] = await Promise.all([
      joinOrStartSandbox({ dataDir: dir }),
      joinOrStartSandbox({ dataDir: dir }),
    ]);
    try {
      expect([mine.joined, other.joined, mine.origin]).toEqual([true, true, owner.origin]);
      await kill(owner.child);
      await eventually(async () => {
        expect(await stripeFor(mine).customers.retrieve(id)).toMatchObject({ name: 'Ada' });
      });
      expect([mine.joined, other.joined].sort()).toEqual([false, true]);
      expect([mine.origin, other.origin]).toEqual([owner.origin, owner.origin]);
      await other.seedCatalogue({ products: [{ id: 'prod_a', name: 'A' }], prices: [] });
    } finally {
      await mine.stop();
      await other.stop();
    }
    expect(readOwner(dir)).toMatchObject({ epoch: 2, released: true });
  });

  it('lets exactly one process claim an epoch, and none an old one', () => {
    const dir = dataDir();
    const owner = (epoch: number, instance: string) => ({
      epoch,
      pid: process.pid,
      instance,
      origin: null,
      released: false,
    });
    expect([claim(dir, owner(1, 'a')), claim(dir, owner(1, 'b'))]).toEqual([true, false]);
    expect(claim(dir, owner(2, 'c'))).toBe(true);
    expect(claim(dir, owner(1, 'd'))).toBe(false);
    expect(readOwner(dir)).toMatchObject({ epoch: 2, instance: 'c' });
  });
});
