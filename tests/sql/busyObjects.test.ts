import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

/** Objects with more due events than a claim looks at, all of them older than anybody else's. */

const database = testDatabase();
beforeEach(() => database.current.query('delete from stripe_webhook_events'));

const LOOKS = 4;
const LIMIT = 5;
let second = 0;
/** Commits an event, newer than those before it; without a lease unless asked. */
async function receive(id: string, key: string | null, lease: number | null = null) {
  second += 1;
  await callAsService(database.current, 'receive_webhook_event', {
    p_event_id: id,
    p_event_type: 'invoice.paid',
    p_object_id: key,
    p_order_key: key,
    p_event_created_at: new Date(Date.UTC(2026, 0) + second * 1000).toISOString(),
    p_payload: {},
    p_lease_seconds: lease,
  });
}
async function receiveMany(key: string): Promise<void> {
  for (let n = 0; n <= LOOKS * LIMIT; n += 1) await receive(`evt_${key}_${n}`, key);
}
async function claim(args: Record<string, Json> = {}): Promise<string[]> {
  const events = (await callAsService(database.current, 'claim_webhook_events', {
    p_limit: LIMIT,
    ...args,
  })) as unknown as { event_id: string }[];
  return events.map(({ event_id }) => event_id);
}

describe('due events behind those of a busy object', () => {
  it('are claimed while another worker has the object', async () => {
    await receive('evt_begun', 'busy', 60);
    await receiveMany('busy');
    await receive('evt_other', 'other');
    await receive('evt_of_nothing', null);
    expect(await claim()).toEqual(['evt_other', 'evt_of_nothing']);
    expect(await claim()).toEqual([]);
  });

  it('are claimed with the first one of the object, and its others wait for that', async () => {
    await receive('evt_of_nothing', null);
    await receiveMany('busy');
    await receive('evt_other', 'other');
    expect(await claim()).toEqual(['evt_of_nothing', 'evt_busy_0', 'evt_other']);
    expect(await claim({ p_order_key: 'busy' })).toEqual([]);
  });

  it('are claimed behind several such objects', async () => {
    for (const key of ['a', 'b', 'c']) {
      await receive(`evt_${key}`, key, 60);
      await receiveMany(key);
    }
    await receive('evt_other', 'other');
    expect(await claim()).toEqual(['evt_other']);
  });
});
