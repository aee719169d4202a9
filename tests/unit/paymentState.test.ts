import { describe, expect, it } from '@jest/globals';
import { type PaymentStateDeps, paymentStateOf } from '../../src/webhook/paymentState.ts';

/**
 * What Stripe may answer and the sandbox never does: words of a later version, other currencies,
 * partial captures, silence. Everything else is told in tests/stories.
 */
interface Answers {
  charges?: object[];
  refunds?: object[];
  disputes?: object[];
  recorded?: { version: number; paid: number; settlement?: unknown };
}

const charge = (fields: object = {}) => ({
  id: 'ch_1',
  object: 'charge',
  amount: 500,
  amount_captured: 500,
  captured: true,
  currency: 'usd',
  status: 'succeeded',
  ...fields,
});
const refund = (status: string | null, amount = 100) => ({
  id: `re_${status}`,
  object: 'refund',
  amount,
  currency: 'usd',
  status,
});
const dispute = (status: string, fields: object = {}) => ({
  id: `du_${status}`,
  object: 'dispute',
  amount: 200,
  currency: 'usd',
  status,
  ...fields,
});

function read(
  { charges = [charge()], refunds = [], disputes = [], recorded }: Answers,
  id = 'pi_1',
) {
  const page = (data: object[]) => ({ autoPagingToArray: async () => data });
  const deps = {
    db: {
      rpc: async () => ({ version: 0, paid: 0, settlement: null, user_id: null, ...recorded }),
    },
    stripe: {
      charges: { list: () => page(charges), retrieve: async () => charges[0] },
      refunds: { list: () => page(refunds) },
      disputes: { list: () => page(disputes) },
    },
  } as unknown as PaymentStateDeps;
  return paymentStateOf(deps, id);
}

describe('the state of a payment', () => {
  it('counts refunds that succeeded, and no others', async () => {
    const refunds = ['succeeded', 'pending', 'requires_action', 'failed', 'canceled'].map(
      (status) => refund(status),
    );
    const { state, effects } = await read({ refunds });
    expect(state).toMatchObject({ paid: 500, refunded: 100, status: 'partially_refunded' });
    expect(effects).toHaveLength(1);
  });

  it.each<[string, number]>([
    ['needs_response', 200],
    ['under_review', 200],
    ['lost', 200],
    ['appeal_needs_response', 200],
    ['appeal_under_review', 200],
    ['won', 0],
    ['prevented', 0],
    ['warning_needs_response', 0],
    ['warning_under_review', 0],
    ['warning_closed', 0],
  ])('counts a dispute that is %s as %i', async (status, disputed) => {
    const { state, effects } = await read({ disputes: [dispute(status)] });
    expect(state.disputed).toBe(disputed);
    expect(effects).toHaveLength(1);
  });

  it('counts words it does not know as nothing, and says so', async () => {
    const { state, effects } = await read({
      refunds: [refund('on_mars'), refund(null)],
      disputes: [dispute('toString')],
    });
    expect(state).toMatchObject({ refunded: 0, disputed: 0 });
    expect(effects.slice(1)).toMatchObject([
      { kind: 'finding', code: 'refund_status_unknown', detail: { status: 'on_mars' } },
      { kind: 'finding', code: 'refund_status_unknown', detail: { status: null } },
      { kind: 'finding', code: 'dispute_status_unknown', subject: 'payment:pi_1:du_toString' },
    ]);
  });

  it('takes a dispute in another currency as the whole payment', async () => {
    const { state } = await read({ disputes: [dispute('lost', { currency: 'eur' })] });
    expect(state.disputed).toBe(500);
  });

  it('adds up what was captured by the charges that succeeded', async () => {
    const { state } = await read({
      charges: [
        charge({ status: 'failed', amount_captured: 0, captured: false }),
        charge({ amount_captured: 300 }),
        charge({ captured: false, amount_captured: 0 }),
        charge({ amount_captured: 100 }),
      ],
    });
    expect(state).toMatchObject({ paid: 400, status: 'succeeded' });
  });

  it('is failed or pending where nothing was paid', async () => {
    const failed = charge({ status: 'failed', amount_captured: 0 });
    const pending = charge({ status: 'pending' });
    expect((await read({ charges: [failed] })).state).toMatchObject({ paid: 0, status: 'failed' });
    expect((await read({ charges: [] })).state.status).toBe('failed');
    expect((await read({ charges: [failed, pending] })).state).toMatchObject({
      paid: 0,
      status: 'pending',
    });
  });

  it('of a charge without an intent is read from the charge', async () => {
    const { state } = await read({ refunds: [refund('succeeded', 500)] }, 'ch_1');
    expect(state).toMatchObject({ payment: 'ch_1', paid: 500, refunded: 500, status: 'refunded' });
  });

  it('is not believed where Stripe has no charge of what was paid', async () => {
    await expect(read({ charges: [], recorded: { version: 1, paid: 500 } })).rejects.toMatchObject({
      code: 'dependency_down',
    });
    await expect(read({ charges: [], refunds: [refund('succeeded')] })).rejects.toThrow(
      'lists no charge',
    );
  });

  it('is not cut off at what one reading takes', async () => {
    const refunds = Array.from({ length: 1_000 }, () => refund('succeeded', 1));
    await expect(read({ refunds })).rejects.toThrow('more than can be read');
  });

  it('names the version that was read before Stripe was asked', async () => {
    const { state, known } = await read({ recorded: { version: 7, paid: 500 } });
    expect([state.version, known]).toEqual([7, true]);
    expect((await read({})).known).toBe(false);
  });
});
