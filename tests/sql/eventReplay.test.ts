import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService, concurrently, countBy } from '../support/sqlCall.ts';

const database = testDatabase();
beforeEach(async () => {
  await database.current.query('delete from stripe_webhook_events');
  await database.current.query(
    `begin; set local role purser_ledger; delete from webhook_replays; delete from purchase_claims;
     delete from claim_links; delete from stripe_event_cursors; reset role; commit`,
  );
});

const call = (name: string, args: Record<string, Json | undefined> = {}) =>
  callAsService(database.current, name, args);

/** Events evt_<prefix>0 ... in a state, a second apart. */
async function put(count: number, status = 'dead', prefix = ''): Promise<void> {
  await database.current.query(
    `insert into stripe_webhook_events (stripe_event_id, event_type, object_id, event_data, status, retry_count, created_at)
     select format('evt_%s%s', $3::text, n), 'x.y', format('cs_%s%s', $3::text, n), '{}', $2, 10,
       clock_timestamp() - make_interval(secs => $1::int - n)
     from generate_series(0, $1::int - 1) n`,
    [count, status, prefix],
  );
}
const statuses = async () =>
  Object.fromEntries(
    (
      await database.current.query<{ status: string; n: number }>(
        'select status, count(*)::int as n from stripe_webhook_events group by 1 order by 1',
      )
    ).map(({ status, n }) => [status, n]),
  );

describe('requeue_webhook_events', () => {
  it('puts up to 100 back at once, with all their attempts', async () => {
    await put(100);
    await put(3, 'processed', 'p');
    expect(await call('requeue_webhook_events', { p_dry_run: true })).toMatchObject({
      matched: 100,
      requeued: 0,
      dry_run: true,
    });
    expect(await statuses()).toEqual({ dead: 100, processed: 3 });
    expect(await call('requeue_webhook_events')).toMatchObject({
      matched: 100,
      requeued: 100,
      replay_id: null,
    });
    expect(await statuses()).toEqual({ processed: 3, received: 100 });
    expect(await call('requeue_webhook_events')).toMatchObject({ matched: 0, requeued: 0 });
  });

  it.each<[Record<string, Json>, number]>([
    [{ p_status: 'failed' }, 2],
    [{ p_status: 'processed' }, 3],
    [{ p_type: 'x.z' }, 0],
    [{ p_event_ids: ['evt_p0', 'evt_f1', 'evt_none'] }, 2],
    [{ p_since: '2999-01-01T00:00:00Z' }, 0],
    [{}, 2],
  ])('matches by %j', async (filter, matched) => {
    await put(2, 'failed', 'f');
    await put(3, 'processed', 'p');
    expect(await call('requeue_webhook_events', { ...filter, p_dry_run: true })).toMatchObject({
      matched,
    });
  });
});

describe('a replay of many', () => {
  it('goes batch by batch, each event once, also when several work it off', async () => {
    await put(230);
    const { replay_id } = await call('requeue_webhook_events', { p_actor: 'admin:1' });
    expect(await statuses()).toEqual({ dead: 230 });
    const batch = { p_batch: 50, p_pause_seconds: 0, p_backlog_max: 1000 };
    for (let round = 0; round < 3; round += 1) {
      await concurrently(3, () => call('advance_webhook_replay', batch));
    }
    while ((await call('advance_webhook_replay', batch)).outcome !== 'idle') {}
    expect(await call('get_webhook_replay', { p_replay_id: replay_id })).toMatchObject({
      outcome: 'found',
      replay: { status: 'done', matched: 230, requeued: 230, actor: 'admin:1' },
    });
    expect(await statuses()).toEqual({ received: 230 });
  });

  it('does not meet events again that fail meanwhile, nor such as came later', async () => {
    await put(120);
    await call('requeue_webhook_events');
    const batch = { p_batch: 60, p_pause_seconds: 0, p_backlog_max: 1000 };
    await call('advance_webhook_replay', batch);
    await database.current.query(
      `update stripe_webhook_events set status = 'dead' where status = 'received'`,
    );
    await put(5, 'dead', 'later');
    await database.current.query(
      `update stripe_webhook_events set created_at = clock_timestamp() where stripe_event_id like 'evt_later%'`,
    );
    while ((await call('advance_webhook_replay', batch)).outcome !== 'idle') {}
    expect(await statuses()).toEqual({ dead: 65, received: 60 });
  });

  it('waits while the inbox is full, and between batches', async () => {
    await put(150);
    await call('requeue_webhook_events');
    const batch = { p_batch: 20, p_pause_seconds: 0, p_backlog_max: 30 };
    expect(await call('advance_webhook_replay', batch)).toMatchObject({ outcome: 'advanced' });
    expect(await call('advance_webhook_replay', { ...batch, p_pause_seconds: 60 })).toMatchObject({
      outcome: 'advanced',
    });
    expect(await call('advance_webhook_replay', { ...batch, p_backlog_max: 1000 })).toMatchObject({
      outcome: 'waiting',
    });
    expect(await statuses()).toEqual({ dead: 110, received: 40 });
  });

  it('puts nothing more back once it is cancelled', async () => {
    await put(150);
    const { replay_id } = await call('requeue_webhook_events');
    const batch = { p_batch: 50, p_pause_seconds: 0 };
    await call('advance_webhook_replay', batch);
    const cancel = () =>
      call('cancel_webhook_replay', { p_replay_id: replay_id, p_actor: 'admin:2' });
    expect(await cancel()).toMatchObject({
      replay: { status: 'canceled', requeued: 50, canceled_by: 'admin:2' },
    });
    expect(await call('advance_webhook_replay', batch)).toEqual({ outcome: 'idle' });
    expect(await cancel()).toMatchObject({ replay: { status: 'canceled' } });
    expect(await statuses()).toEqual({ dead: 100, received: 50 });
    expect(
      await call('cancel_webhook_replay', {
        p_replay_id: '00000000-0000-4000-8000-000000000000',
        p_actor: 'x',
      }),
    ).toEqual({ outcome: 'not_found' });
  });
});

describe('events that were not delivered', () => {
  const missed = (id: string) => ({
    event_id: id,
    event_type: 'x.y',
    object_id: `cs_${id}`,
    order_key: `cs_${id}`,
    created_at: '2026-11-21T10:00:00Z',
    payload: { id },
  });

  it('are received once, however many fetch them, and a parked one is left alone', async () => {
    await put(1, 'parked', 'p');
    const events = ['evt_a', 'evt_b', 'evt_p0'].map(missed);
    expect(await call('receive_missed_events', { p_events: events, p_dry_run: true })).toEqual({
      received: ['evt_a', 'evt_b'],
      duplicates: 1,
    });
    expect(await statuses()).toEqual({ parked: 1 });
    const answers = await concurrently(5, () =>
      call('receive_missed_events', { p_events: events }),
    );
    expect(answers.flatMap(({ received }) => received).sort()).toEqual(['evt_a', 'evt_b']);
    expect(await statuses()).toEqual({ parked: 1, received: 2 });
  });

  it('are compared from the first run on, with an overlap, and never back', async () => {
    const cursor = () =>
      call('get_event_cursor', {
        p_name: 'c',
        p_overlap_seconds: 600,
        p_now: '2026-11-21T10:00:00Z',
      });
    expect(await cursor()).toMatchObject({ outcome: 'begun', from: '2026-11-21T10:00:00.000Z' });
    const move = (p_position: string) => call('move_event_cursor', { p_name: 'c', p_position });
    await move('2026-11-21T10:05:00Z');
    expect(await cursor()).toMatchObject({ outcome: 'found', from: '2026-11-21T10:00:00.000Z' });
    await move('2026-11-21T12:00:00Z');
    expect(await move('2026-11-21T11:00:00Z')).toEqual({ position: '2026-11-21T12:00:00.000Z' });
    expect(await cursor()).toMatchObject({ from: '2026-11-21T11:50:00.000Z' });
  });
});

describe('a claim', () => {
  const [claimant, other] = [userId('claimant'), userId('other')];
  beforeEach(async () => {
    await put(1, 'parked');
    for (const user of [claimant, other]) await call('ensure_user', { p_user_id: user });
  });
  const claim = (user = claimant, p_event_id = 'evt_0') =>
    call('claim_parked_event', {
      p_event_id,
      p_user_id: user,
      p_actor: 'admin:1',
      p_reason: 'wrote to us',
    });
  const grant = (sources: string[], user = userId('nobody')) =>
    call('apply_webhook_effects', {
      p_event_id: null,
      p_fence: null,
      p_effects: [
        {
          kind: 'grant',
          user_id: user,
          type: 'purchase',
          key: sources[0],
          sources,
          lots: [{ credits: 50 }],
        },
        { kind: 'customer', customer_id: 'cus_buyer', user_id: user },
      ] as Json,
    });

  it('sends the grant to the claimant, whatever it names, and not the customer', async () => {
    await put(1, 'parked', 'g');
    expect(await claim(claimant, 'evt_g0')).toMatchObject({
      outcome: 'claimed',
      object_id: 'cs_g0',
      user_id: claimant,
      event_ids: ['evt_g0'],
    });
    expect(await statuses()).toEqual({ parked: 1, received: 1 });
    const { results } = await grant(['checkout:cs_g0', 'invoice:in_g0', 'payment:pi_g0']);
    expect(results[0]).toMatchObject({ outcome: 'applied', user_id: claimant });
    expect(results[1]).toMatchObject({ outcome: 'not_found' });
    expect((await grant(['checkout:cs_g0'])).results[0]).toMatchObject({
      outcome: 'replayed',
      user_id: claimant,
    });
    expect((await call('find_claimed_user', { p_object_ids: ['pi_9', 'cs_g0'] })).user_id).toBe(
      claimant,
    );
    expect(
      await database.current.query(
        `select actor, reason from audit_events where action = 'claim_purchase'`,
      ),
    ).toEqual([{ actor: 'admin:1', reason: 'wrote to us' }]);
  });

  it('of what another has been credited for is a conflict, and leaves the link to be used', async () => {
    await put(1, 'parked', 'theirs');
    await grant(['payment:pi_theirs', 'checkout:cs_theirs0'], other);
    expect(await claim(claimant, 'evt_theirs0')).toMatchObject({ outcome: 'conflict' });
    expect(await call('find_claimed_user', { p_object_ids: ['cs_theirs0'] })).toEqual({
      user_id: null,
    });
    await link('theirs', 60, 'evt_theirs0');
    expect(await use('theirs')).toMatchObject({ outcome: 'conflict' });
    expect(await statuses()).toEqual({ parked: 2 });
    expect(await use('theirs', other)).toMatchObject({ outcome: 'claimed' });
  });

  it.each([
    ['user_not_found', userId('nobody'), 'evt_0'],
    ['not_found', claimant, 'evt_none'],
    ['no_purchase', claimant, 'evt_sub'],
  ])('is answered %s where that is so', async (outcome, user, eventId) => {
    await database.current.query(
      `insert into stripe_webhook_events (stripe_event_id, event_type, object_id, event_data, status)
       values ('evt_sub', 'customer.subscription.updated', 'sub_1', '{}', 'parked')`,
    );
    expect(await claim(user, eventId)).toMatchObject({ outcome });
    expect(await statuses()).toEqual({ parked: 2 });
  });

  it('may be repeated, but not by another once it is not parked', async () => {
    await claim();
    expect(await claim()).toMatchObject({ outcome: 'claimed', event_ids: [] });
    expect(await claim(other)).toMatchObject({ outcome: 'not_parked' });
  });

  const link = (hash: string, seconds = 60, p_event_id = 'evt_0') =>
    call('create_claim_link', {
      p_event_id,
      p_token_hash: hash,
      p_expires_seconds: seconds,
      p_actor: 'admin:1',
    });
  const use = (hash: string, user = claimant) =>
    call('use_claim_link', { p_token_hash: hash, p_user_id: user, p_actor: 'user' });

  it('by link works once, also when many try at the same time', async () => {
    expect(await link('h')).toMatchObject({ outcome: 'created', object_id: 'cs_0' });
    const users = await Promise.all(
      Array.from({ length: 6 }, async (_, n) => {
        await call('ensure_user', { p_user_id: userId(`racer-${n}`) });
        return userId(`racer-${n}`);
      }),
    );
    const answers = await Promise.all(users.map((user) => use('h', user)));
    expect(countBy(answers.map(({ outcome }) => outcome))).toEqual({ claimed: 1, not_found: 5 });
    const winner = answers.find(({ outcome }) => outcome === 'claimed')?.user_id;
    expect(await use('h', winner)).toMatchObject({ outcome: 'claimed', event_ids: [] });
  });

  it('by link is refused when it is expired, replaced or unknown, and for users there are none of', async () => {
    await link('expired', -1);
    expect(await use('expired')).toEqual({ outcome: 'not_found' });
    await link('first');
    await link('second');
    expect(await use('first')).toEqual({ outcome: 'not_found' });
    expect(await use('second', userId('nobody'))).toEqual({ outcome: 'user_not_found' });
    expect(await use('second')).toMatchObject({ outcome: 'claimed' });
    expect(await use('unknown')).toEqual({ outcome: 'not_found' });
    expect(await link('third')).toMatchObject({ outcome: 'not_parked' });
  });
});
