import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createDueQueue } from '../../src/sandbox/dueQueue.ts';
import { collection, createStore } from '../../src/sandbox/store.ts';
import {
  openSession,
  receiver,
  refusingUrl,
  testSandbox,
  track,
  unwatch,
} from './support/sandbox.ts';

const START = Date.UTC(2026, 0, 31, 12);
const DAY = 86_400;

describe('the clock of the account', () => {
  it('flows from where it was moved to, and stands while it is frozen', async () => {
    let now = START;
    const sandbox = await testSandbox({ now: () => now });
    expect(await sandbox.clock()).toMatchObject({ now: START / 1_000, frozen: false });
    await sandbox.advance({ days: 2 });
    now += 5_000;
    expect((await sandbox.clock()).now).toBe(START / 1_000 + 2 * DAY + 5);
    await sandbox.freeze();
    now += 60_000;
    expect(await sandbox.clock()).toMatchObject({ now: START / 1_000 + 2 * DAY + 5, frozen: true });
    await sandbox.advance({ hours: 1 });
    expect(await sandbox.clock()).toMatchObject({
      now: START / 1_000 + 2 * DAY + 5 + 3_600,
      frozen: true,
    });
    await sandbox.flow();
    now += 1_000;
    expect((await sandbox.clock()).now).toBe(START / 1_000 + 2 * DAY + 5 + 3_600 + 1);
  });

  it('does what is due on the way at its own instant, in the order of time', async () => {
    const sandbox = await testSandbox({ now: () => START, delaySettleMs: 3 * DAY * 1_000 });
    const { stripe } = sandbox;
    const debit = await openSession(sandbox);
    await sandbox.pay(debit.id, { outcome: 'settles_later' });
    const left = await openSession(sandbox);
    const so = await sandbox.advance({ to: '2026-03-01T00:00:00Z' });
    expect(so).toMatchObject({ done: true, tasks: 2, now_iso: '2026-03-01T00:00:00.000Z' });
    const told = (await stripe.events.list({ limit: 100 })).data
      .filter(({ type }) => /expired|async/.test(type))
      .map(({ type, created }) => [type, created - START / 1_000]);
    expect(told).toEqual([
      ['checkout.session.async_payment_succeeded', 3 * DAY],
      ['checkout.session.expired', DAY],
    ]);
    expect(await stripe.checkout.sessions.retrieve(left.id)).toMatchObject({ status: 'expired' });
  });

  it('goes in pieces when much is due, and says how far it is', async () => {
    const sandbox = await testSandbox({ now: () => START });
    for (const hour of [1, 2, 3, 4, 5]) {
      await openSession(sandbox, { expires_at: START / 1_000 + hour * 3_600 });
    }
    await sandbox.freeze();
    const piece = async () => {
      const answer = await fetch(`${sandbox.origin}/_sandbox/clock/advance`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify({ to: START / 1_000 + 2 * DAY, max_steps: 2 }),
      });
      const { done, tasks, now } = (await answer.json()) as Record<string, number>;
      return [done, tasks, (now ?? 0) - START / 1_000];
    };
    expect([await piece(), await piece(), await piece()]).toEqual([
      [false, 2, 2 * 3_600],
      [false, 2, 4 * 3_600],
      [true, 1, 2 * DAY],
    ]);
  });

  it('retries webhooks over three days of its own and gives up after them', async () => {
    const sandbox = await testSandbox({ now: () => START, retryScheduleMs: undefined as never });
    await sandbox.ensureWebhookEndpoint({ url: await refusingUrl() });
    await sandbox.stripe.customers.create({});
    await sandbox.advance({ days: 2 });
    const [trying] = await sandbox.deliveries();
    expect(trying).toMatchObject({ status: 'pending', tries: 11 });
    await sandbox.advance({ days: 1.5 });
    const [given] = await sandbox.deliveries();
    expect(given).toMatchObject({ status: 'failed', tries: 12, next_attempt_at: null });
  });

  it('lets an endpoint answer what one instant made before the next instant comes', async () => {
    const sandbox = await testSandbox({ now: () => START });
    const hook = await receiver();
    const seen: number[] = [];
    hook.answer = async () => {
      seen.push((await sandbox.clock()).now - START / 1_000);
      return 200;
    };
    await sandbox.ensureWebhookEndpoint({
      url: hook.url,
      enabledEvents: ['checkout.session.expired'],
    });
    const early = await openSession(sandbox, { expires_at: START / 1_000 + 3_600 });
    await openSession(sandbox);
    await sandbox.advance({ days: 30 });
    expect(seen).toEqual([3_600, DAY]);
    expect(hook.received[0]?.event.data.object).toMatchObject({ id: early.id });
  });

  it('ends where it is when the sandbox is stopped, and goes on from there after a restart', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-clock-'));
    track({ stop: () => rmSync(dataDir, { recursive: true, force: true }) });
    const first = await testSandbox({ now: () => START, dataDir });
    await openSession(first, { expires_at: START / 1_000 + 3_600 });
    await openSession(first);
    const hook = await receiver();
    let stopping: Promise<void> | undefined;
    hook.answer = () => {
      stopping ??= first.stop();
      return 200;
    };
    const enabledEvents = ['checkout.session.expired'];
    await first.ensureWebhookEndpoint({ url: hook.url, enabledEvents });
    await expect(first.advance({ days: 30 })).rejects.toThrow();
    await stopping;
    unwatch(first);
    const second = await testSandbox({ now: () => START, dataDir });
    expect(await second.clock()).toMatchObject({ now: START / 1_000 + 3_600, frozen: false });
    expect((await second.stripe.checkout.sessions.list({ status: 'open' })).data).toHaveLength(1);
  });

  it('refuses to go back, to go two ways, or to go a thousand years', async () => {
    const sandbox = await testSandbox({ now: () => START });
    await expect(sandbox.advance({ to: 5 })).rejects.toThrow('goes forward only');
    await expect(sandbox.advance({ days: 1, hours: 1 })).rejects.toThrow('exactly one of');
    await expect(sandbox.advance({ to: START })).rejects.toThrow('20 years');
    await expect(sandbox.advance({ to: '2026-13-01' })).rejects.toThrow(
      'to: Unix seconds, a day like 2027-01-31',
    );
  });
});

describe('the queue of due things', () => {
  it('gives them by time, and by turn at the same time, whatever is moved or deleted', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(20), fc.option(fc.nat(10))), { maxLength: 200 }),
        (moves) => {
          const queue = createDueQueue();
          const model = new Map<string, { due: number; turn: number }>();
          moves.forEach(([id, due], turn) => {
            const key = `t${id}`;
            if (due === null) {
              queue.delete(key);
              model.delete(key);
              return;
            }
            queue.set(key, due);
            if (model.get(key)?.due !== due) model.set(key, { due, turn });
          });
          const expected = [...model].sort(([, a], [, b]) => a.due - b.due || a.turn - b.turn);
          const given: string[] = [];
          for (let next = queue.peek(); next; next = queue.peek()) {
            given.push(next.id);
            queue.delete(next.id);
          }
          expect(given).toEqual(expected.map(([id]) => id));
        },
      ),
    );
  });
});

describe('an index of the store', () => {
  it('agrees with a walk after any writes and undone transactions', () => {
    type Pet = { id: string; object: 'pet'; owner: string };
    const pets = collection<Pet, Record<string, never>>('pets', {
      owner: ({ view }) => view.owner,
    });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(6), fc.constantFrom('a', 'b', 'c', null), fc.boolean())),
        (writes) => {
          const store = createStore();
          store.lookUp(pets, 'owner', 'a');
          for (const [number, owner, fails] of writes) {
            const id = `p${number}`;
            const write = () =>
              store.transaction(() => {
                if (owner === null) store.remove(pets, id);
                else store.put(pets, { id, view: { id, object: 'pet', owner }, hidden: {} });
                if (fails) throw new Error('undone');
              });
            if (fails) expect(write).toThrow('undone');
            else write();
            for (const value of ['a', 'b', 'c']) {
              const walked = [...store.walk(pets, 'oldest_first')].filter(
                ({ view }) => view.owner === value,
              );
              expect(new Set(store.lookUp(pets, 'owner', value))).toEqual(new Set(walked));
            }
          }
        },
      ),
    );
  });
});
