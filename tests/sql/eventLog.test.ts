import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
beforeEach(() => database.current.query('delete from stripe_webhook_events'));

const call = (name: string, args: Record<string, Json | undefined> = {}) =>
  callAsService(database.current, name, args);
const asService = <T>(sql: string, values: unknown[] = []): Promise<T[]> =>
  database.current.asRole('service_role', {}, async (client) => {
    const { rows } = await client.query(sql, values);
    return rows as T[];
  });

interface Row {
  status: string;
  processed: boolean;
  retry_count: number;
  error_message: string | null;
  object_id: string | null;
  due: boolean;
}
async function row(id = 'evt_1'): Promise<Row | undefined> {
  const [found] = await database.current.query<Row>(
    `select status, processed, retry_count, error_message, object_id, next_attempt_at <= clock_timestamp() as due
     from stripe_webhook_events where stripe_event_id = $1`,
    [id],
  );
  return found;
}
const event = (objectId: string, id = 'evt_1') => ({
  id,
  object: 'event',
  type: 'x.y',
  created: 1_700_000_000,
  livemode: false,
  data: { object: { id: objectId } },
});
const log = (data: Json = event('cs_1'), id = 'evt_1') =>
  asService<{ id: string }>(`select log_stripe_webhook_event($1, 'x.y', $2::jsonb) as id`, [
    id,
    JSON.stringify(data),
  ]);
/** An event in a state, as work on it would leave it. */
async function put(status: string, fields = '', id = 'evt_1'): Promise<void> {
  await log(event('cs_1', id), id);
  await database.current.query(
    `update stripe_webhook_events set status = $1 ${fields} where stripe_event_id = $2`,
    [status, id],
  );
}

describe('log_stripe_webhook_event', () => {
  it.each<[string, Json, string | null]>([
    ['a full event', event('cs_1'), 'cs_1'],
    ['the bare object', { id: 'sub_123', object: 'subscription' }, 'sub_123'],
    [
      'a thin notification',
      { id: 'evt_1', object: 'v2.core.event', related_object: { id: 'in_1' } },
      'in_1',
    ],
    ['something else', { test: true }, null],
  ])('takes %s, and fills object_id', async (_what, data, objectId) => {
    const [first] = await log(data);
    expect(await row()).toMatchObject({ status: 'logged', processed: false, object_id: objectId });
    expect(await log({ other: 1 })).toEqual([first]);
  });

  it('refuses an event without id or type', async () => {
    await expect(asService(`select log_stripe_webhook_event('', 'x')`)).rejects.toThrow(
      /invalid_request/,
    );
  });

  it('is not worked on until it is asked for', async () => {
    await log();
    expect(await call('claim_webhook_events')).toEqual([]);
    await asService(`update stripe_events set processed = false where stripe_event_id = 'evt_1'`);
    expect(await call('claim_webhook_events')).toMatchObject([{ event_id: 'evt_1' }]);
  });
});

describe('mark_webhook_processed', () => {
  it.each(['logged', 'received', 'failed', 'parked', 'dead'])(
    'ends one that is %s',
    async (status) => {
      await put(status);
      expect(await asService(`select mark_webhook_processed('evt_1') as known`)).toEqual([
        { known: true },
      ]);
      expect(await row()).toMatchObject({
        status: 'processed',
        processed: true,
        error_message: null,
      });
    },
  );

  it.each([
    ['logged', 'logged'],
    ['received', 'failed'],
    ['processed', 'failed'],
  ])('with an error: one that is %s is %s, and counted', async (status, after) => {
    await put(status);
    await asService(`select mark_webhook_processed('evt_1', 'Invalid subscription ID')`);
    expect(await row()).toMatchObject({
      status: after,
      processed: false,
      retry_count: 1,
      error_message: 'Invalid subscription ID',
    });
  });

  it('says when there is no such event', async () => {
    expect(await asService(`select mark_webhook_processed('evt_none') as known`)).toEqual([
      { known: false },
    ]);
  });
});

describe('processed written by hand', () => {
  const tables = [
    'stripe_webhook_events',
    'stripe_events',
    'webhook_events',
    'stripe_webhook_logs',
  ];
  it.each(tables)('as false re-queues whatever the status is: %s', async (table) => {
    for (const status of ['logged', 'failed', 'parked', 'processed', 'ignored', 'dead']) {
      await put(status, `, retry_count = 10, next_attempt_at = 'infinity'`);
      await asService(
        `update ${table} set processed = false, retry_count = 0 where stripe_event_id = 'evt_1'`,
      );
      expect(await row()).toMatchObject({ status: 'received', retry_count: 0, due: true });
    }
  });

  it('gives a dead one its attempts back also where the statement does not', async () => {
    await put('dead', ', retry_count = 10');
    await asService(`update failed_webhooks set processed = false where stripe_event_id = 'evt_1'`);
    expect(await row()).toMatchObject({ status: 'received', retry_count: 0 });
  });

  it('leaves an event alone that is being worked on', async () => {
    await put('leased', `, leased_until = clock_timestamp() + interval '1 minute'`);
    await asService(`update stripe_events set processed = false where stripe_event_id = 'evt_1'`);
    expect(await row()).toMatchObject({ status: 'leased' });
  });

  it('as true ends the event', async () => {
    await put('dead');
    await asService(`update stripe_events set processed = true where stripe_event_id = 'evt_1'`);
    expect(await row()).toMatchObject({ status: 'processed', processed: true });
  });

  it('is the only thing that can be written, besides retry_count and delete', async () => {
    await put('dead');
    for (const change of [`status = 'processed'`, `event_data = '{}'`, `error = 'x'`]) {
      await expect(asService(`update stripe_events set ${change}`)).rejects.toThrow(
        /permission denied/,
      );
    }
    await asService(`delete from stripe_events where stripe_event_id = 'evt_1'`);
    expect(await row()).toBeUndefined();
  });
});

describe('retry_failed_webhooks', () => {
  it('lists failed ones with few retries of the last day, and makes them due', async () => {
    await put('failed', `, retry_count = 1, next_attempt_at = 'infinity'`, 'evt_1');
    await put('failed', ', retry_count = 3', 'evt_2');
    await put('failed', `, created_at = now() - interval '25 hours'`, 'evt_3');
    await put('parked', '', 'evt_4');
    await put('processed', '', 'evt_5');
    await put('logged', `, error_message = 'x'`, 'evt_6');
    expect(
      await asService(
        'select stripe_event_id, event_type, retry_count from retry_failed_webhooks(3)',
      ),
    ).toEqual([
      { stripe_event_id: 'evt_1', event_type: 'x.y', retry_count: 1 },
      { stripe_event_id: 'evt_6', event_type: 'x.y', retry_count: 0 },
    ]);
    expect(await row('evt_1')).toMatchObject({ status: 'received', due: true });
    expect(await row('evt_6')).toMatchObject({ status: 'logged' });
    expect(await asService('select count(*)::int as n from retry_failed_webhooks()')).toEqual([
      { n: 1 },
    ]);
  });
});

describe('cleanup_old_webhook_events', () => {
  const old = `, created_at = now() - interval '91 days'`;
  beforeEach(async () => {
    await put('processed', old, 'evt_old');
    await put('processed', `${old}, transaction_ids = '{7}'`, 'evt_wrote');
    await put('ignored', old, 'evt_ignored');
    await put('processed', '', 'evt_new');
    for (const status of ['parked', 'dead', 'logged', 'failed'])
      await put(status, old, `evt_${status}`);
  });
  const left = () =>
    asService<{ id: string }>(`select stripe_event_id as id from stripe_events order by 1`).then(
      (rows) => rows.map(({ id }) => id),
    );
  const kept = ['evt_dead', 'evt_failed', 'evt_logged', 'evt_new', 'evt_parked'];

  it('deletes what ended long ago, but not what wrote entries', async () => {
    expect(await asService('select cleanup_old_webhook_events(90) as n')).toEqual([{ n: 2 }]);
    expect(await left()).toEqual([...kept, 'evt_wrote']);
  });

  it('deletes that too when payloads need not be kept', async () => {
    expect(await asService('select cleanup_old_webhook_events(90, false) as n')).toEqual([
      { n: 3 },
    ]);
    expect(await left()).toEqual(kept);
  });

  it('goes by pages, and refuses an age below a day', async () => {
    expect(
      await call('delete_old_webhook_events', { p_days: 90, p_keep_payloads: false, p_limit: 2 }),
    ).toEqual({ deleted: 2 });
    await expect(asService('select cleanup_old_webhook_events(0)')).rejects.toThrow(
      /invalid_request/,
    );
  });
});

describe('a failed attempt', () => {
  it('is kept with its cause, the last 20 of them, and dead events are grouped by it', async () => {
    for (const [id, code, cause] of [
      ['evt_1', 'stripe_error', 'transient'],
      ['evt_2', 'internal', 'permanent'],
      ['evt_3', 'internal', 'permanent'],
    ] as const) {
      await call('receive_webhook_event', {
        p_event_id: id,
        p_event_type: 'x.y',
        p_object_id: id,
        p_order_key: id,
        p_event_created_at: null,
        p_payload: {},
      });
      for (let attempt = 1; attempt <= 22; attempt += 1) {
        const args = {
          p_event_id: id,
          p_fence: attempt,
          p_error: `attempt ${attempt}`,
          p_code: code,
          p_cause: cause,
        };
        expect(
          await call('fail_webhook_event', { ...args, p_delay_seconds: attempt < 22 ? 0 : null }),
        ).toEqual({
          outcome: attempt < 22 ? 'failed' : 'dead',
        });
        if (attempt < 22) await call('claim_webhook_events', { p_order_key: id });
      }
    }
    const found = await call('get_webhook_event', { p_event_id: 'evt_1' });
    expect(found.failures).toHaveLength(20);
    expect(found.failures.at(-1)).toMatchObject({
      code: 'stripe_error',
      cause: 'transient',
      error: 'attempt 22',
    });
    expect(await call('list_dead_letters')).toMatchObject({
      total: 3,
      groups: [
        {
          error_code: 'internal',
          cause: 'permanent',
          events: 2,
          event_ids: ['evt_2', 'evt_3'],
          last_error: 'attempt 22',
        },
        { error_code: 'stripe_error', cause: 'transient', events: 1, event_ids: ['evt_1'] },
      ],
    });
  });
});

describe('the entries an event wrote', () => {
  it('stand in the row, once', async () => {
    const user = userId('wrote');
    await call('ensure_user', { p_user_id: user });
    const { fence } = await call('receive_webhook_event', {
      p_event_id: 'evt_1',
      p_event_type: 'x.y',
      p_object_id: 'cs_9',
      p_order_key: 'cs_9',
      p_event_created_at: null,
      p_payload: {},
    });
    const effects = [
      {
        kind: 'grant',
        user_id: user,
        type: 'purchase',
        key: 'checkout:cs_9',
        sources: ['checkout:cs_9'],
        lots: [{ credits: 50 }],
      },
    ];
    const args = { p_event_id: 'evt_1', p_fence: fence, p_effects: effects };
    await call('apply_webhook_effects', args);
    await call('apply_webhook_effects', args);
    const found = await call('get_webhook_event', { p_event_id: 'evt_1' });
    expect(found.entries).toEqual([
      expect.objectContaining({ user_id: user, transaction_type: 'purchase', amount: 50 }),
    ]);
  });
});

describe('the list', () => {
  it('pages from the newest without losing or repeating one', async () => {
    for (let n = 0; n < 7; n += 1) await log(event(`cs_${n}`, `evt_${n}`), `evt_${n}`);
    const seen: string[] = [];
    let next: { created_at: string; id: string } | null | undefined;
    while (next !== null) {
      const page = await call('list_webhook_events', {
        p_limit: 3,
        p_before_created: next?.created_at,
        p_before_id: next?.id,
      });
      for (const { event_id } of page.data) seen.push(event_id);
      next = page.next as typeof next;
    }
    expect(seen).toEqual(['evt_6', 'evt_5', 'evt_4', 'evt_3', 'evt_2', 'evt_1', 'evt_0']);
  });

  it.each([
    [{ p_q: 'cs_1' }, ['evt_1']],
    [{ p_q: 'evt_2' }, ['evt_2']],
    [{ p_q: 'cus_9' }, ['evt_2']],
    [{ p_q: 'NOBODY' }, ['evt_2']],
    [{ p_status: 'parked' }, ['evt_2']],
    [{ p_type: 'x.z' }, []],
  ])('finds by %j', async (filter, expected) => {
    await put('processed', '', 'evt_1');
    await log(event('cs_2', 'evt_2'), 'evt_2');
    await database.current.query(
      `update stripe_webhook_events set status = 'parked', waiting_for = 'cus_9', error_message = 'nobody is known'
       where stripe_event_id = 'evt_2'`,
    );
    const { data } = await call('list_webhook_events', filter);
    expect(data.map(({ event_id }: { event_id: string }) => event_id)).toEqual(expected);
  });
});
