import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

/** Events that end with another one, because its worker read their object after they came. */

const database = testDatabase();
beforeEach(() => database.current.query('delete from stripe_webhook_events'));

const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

const INVOICE: Json = ['invoice.paid', 'invoice.updated'];

/** Commits an event; without a lease unless asked. */
const receive = (id: string, more: Record<string, Json | undefined> = {}) =>
  call('receive_webhook_event', {
    p_event_id: id,
    p_event_type: 'invoice.paid',
    p_object_id: 'in_1',
    p_order_key: 'in_1',
    p_event_created_at: '2026-01-01T00:00:00Z',
    p_payload: {},
    p_lease_seconds: null,
    ...more,
  });

/** Takes the oldest due event, as the sweep does. */
async function take(): Promise<{ id: string; fence: number }> {
  const [event] = (await call('claim_webhook_events', { p_limit: 1 })) as unknown as {
    event_id: string;
    fence: number;
  }[];
  if (event === undefined) throw new Error('Nothing is due.');
  return { id: event.event_id, fence: event.fence };
}

const apply = (event: { id: string; fence: number }, effects: Json[] = []) =>
  call('apply_webhook_effects', {
    p_event_id: event.id,
    p_fence: event.fence,
    p_effects: [...effects, { kind: 'covers', event_types: INVOICE }],
  });

const inbox = () =>
  database.current.query<{ id: string; status: string; covered_by: string | null }>(
    `select stripe_event_id as id, status, covered_by from stripe_webhook_events order by 1`,
  );

describe('an event that covers others', () => {
  it('ends those of its object that came before it was taken up, as it ends itself', async () => {
    await receive('evt_1');
    await receive('evt_2', { p_event_type: 'invoice.updated' });
    const taken = await take();
    expect(await apply(taken)).toMatchObject({
      outcome: 'applied',
      covered: ['invoice.updated'],
      waiting: false,
    });
    expect(await inbox()).toEqual([
      { id: 'evt_1', status: 'processed', covered_by: null },
      { id: 'evt_2', status: 'processed', covered_by: 'evt_1' },
    ]);
    const { event } = await call('get_webhook_event', { p_event_id: 'evt_2' });
    expect(event).toMatchObject({ status: 'processed', error: null, covered_by: 'evt_1' });
  });

  it('ends as ignored what it ignores itself, for the same reason', async () => {
    await receive('evt_1');
    await receive('evt_2');
    await apply(await take(), [{ kind: 'ignore', reason: 'not ours' }]);
    const { event } = await call('get_webhook_event', { p_event_id: 'evt_2' });
    expect(event).toMatchObject({ status: 'ignored', reason: 'not ours', covered_by: 'evt_1' });
  });

  it.each<[string, Record<string, Json>]>([
    ['of another object', { p_object_id: 'in_2' }],
    ['of another type', { p_event_type: 'invoice.sent' }],
  ])('leaves events %s', async (_, more) => {
    await receive('evt_1');
    await receive('evt_2', more);
    expect(await apply(await take())).toMatchObject({ covered: [] });
    expect(await inbox()).toMatchObject([{ status: 'processed' }, { status: 'received' }]);
  });

  it('leaves what came after it was taken up: Stripe may have been asked before', async () => {
    const first = await receive('evt_1', { p_lease_seconds: 60 });
    await receive('evt_2');
    expect(await apply({ id: 'evt_1', fence: first.fence })).toMatchObject({
      covered: [],
      waiting: true,
    });
    await receive('evt_3');
    // The one after it knows of both.
    expect(await apply(await take())).toMatchObject({ covered: ['invoice.paid'], waiting: false });
    expect(await inbox()).toEqual([
      { id: 'evt_1', status: 'processed', covered_by: null },
      { id: 'evt_2', status: 'processed', covered_by: null },
      { id: 'evt_3', status: 'processed', covered_by: 'evt_2' },
    ]);
  });

  it('ends one that had failed, and none when it is parked itself', async () => {
    await receive('evt_1');
    await receive('evt_2');
    const failing = await take();
    await call('fail_webhook_event', {
      p_event_id: failing.id,
      p_fence: failing.fence,
      p_error: 'no answer',
      p_delay_seconds: 3600,
    });
    const parked = await take();
    await apply(parked, [{ kind: 'park', waiting_for: 'cus_1', reason: 'nobody' }]);
    expect(await inbox()).toMatchObject([{ status: 'failed' }, { status: 'parked' }]);
    await call('requeue_webhook_events', { p_event_ids: [parked.id] });
    await apply(await take());
    expect(await inbox()).toEqual([
      { id: 'evt_1', status: 'processed', covered_by: 'evt_2' },
      { id: 'evt_2', status: 'processed', covered_by: null },
    ]);
  });

  it('ends nothing when its lease was lost, and leaves dead ones to people', async () => {
    await receive('evt_1');
    await receive('evt_2');
    await database.current.query(
      `update stripe_webhook_events set status = 'dead' where stripe_event_id = 'evt_2'`,
    );
    const taken = await take();
    expect(await apply({ ...taken, fence: taken.fence + 1 })).toMatchObject({ outcome: 'stale' });
    await apply(taken);
    expect(await inbox()).toMatchObject([{ status: 'processed' }, { status: 'dead' }]);
  });

  it('lets a person ask for a covered one again', async () => {
    await receive('evt_1');
    await receive('evt_2');
    await apply(await take());
    await call('requeue_webhook_events', { p_event_ids: ['evt_2'] });
    expect(await inbox()).toMatchObject([
      { status: 'processed' },
      { status: 'received', covered_by: null },
    ]);
    expect(await apply(await take())).toMatchObject({ outcome: 'applied', covered: [] });
  });
});
