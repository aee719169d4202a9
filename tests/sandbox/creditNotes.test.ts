import { describe, expect, it } from '@jest/globals';
import { billingSandbox, customerWith } from './support/billing.ts';
import { balanceOf, eventsOf, paidCharge, typesOf } from './support/money.ts';
import { type TestSandbox, testSandbox } from './support/sandbox.ts';

/** A paid invoice of $15.00: three packs. */
async function paidInvoice() {
  const sandbox: TestSandbox = await testSandbox({ delaySettleMs: 3_600_000 });
  const bought = await paidCharge(sandbox, {}, { invoice_creation: { enabled: true } });
  const invoice = await sandbox.stripe.invoices.retrieve(String(bought.session.invoice));
  return { ...bought, sandbox, stripe: sandbox.stripe, invoice, line: invoice.lines.data[0]?.id };
}

describe('a credit note of a paid invoice', () => {
  it('refunds, by the line, and lowers nothing that was paid', async () => {
    const { sandbox, stripe, invoice, line = '', charge } = await paidInvoice();
    const told = await eventsOf(sandbox, () =>
      stripe.creditNotes.create({
        invoice: invoice.id,
        lines: [{ type: 'invoice_line_item', invoice_line_item: line, quantity: 2 }],
        refund_amount: 1_000,
        reason: 'order_change',
        memo: 'two packs back',
      }),
    );
    expect(typesOf(told)).toEqual([
      'refund.created',
      'charge.refunded',
      'credit_note.created',
      'invoice.updated',
    ]);
    expect(told[3]?.data).toMatchObject({
      object: { status: 'paid', amount_paid: 1_500, amount_remaining: 0 },
      previous_attributes: { post_payment_credit_notes_amount: 0 },
    });
    const [note] = (
      await stripe.creditNotes.list({ invoice: invoice.id, expand: ['data.invoice'] })
    ).data;
    expect(note).toMatchObject({
      total: 1_000,
      type: 'post_payment',
      status: 'issued',
      number: `${invoice.number}-CN-01`,
      customer: invoice.customer,
      invoice: { id: invoice.id },
      refunds: [{ amount_refunded: 1_000, type: 'refund' }],
      lines: { data: [{ quantity: 2, amount: 1_000, unit_amount: 500, invoice_line_item: line }] },
    });
    expect((await stripe.charges.retrieve(charge.id)).amount_refunded).toBe(1_000);
    expect(await balanceOf(sandbox)).toEqual([500, 500]);
  });

  it('may name a refund that was made before, or money given back elsewhere', async () => {
    const { sandbox, stripe, invoice, charge } = await paidInvoice();
    const refund = await stripe.refunds.create({ charge: charge.id, amount: 600 });
    const note = await stripe.creditNotes.create({
      invoice: invoice.id,
      amount: 1_000,
      refunds: [{ refund: refund.id }],
      out_of_band_amount: 400,
    });
    expect(note).toMatchObject({
      post_payment_amount: 1_000,
      pre_payment_amount: 0,
      out_of_band_amount: 400,
      refunds: [{ refund: refund.id, amount_refunded: 600 }],
    });
    await expect(
      stripe.creditNotes.create({
        invoice: invoice.id,
        amount: 100,
        refunds: [{ refund: refund.id }],
      }),
    ).rejects.toMatchObject({ param: 'refunds[0][refund]' });
    expect(await balanceOf(sandbox)).toEqual([900, 900]);
  });

  it('is refused when the parts do not add up, or are too much', async () => {
    const { sandbox, stripe, invoice, line = '', charge } = await paidInvoice();
    const other = await paidCharge(sandbox);
    const foreign = await stripe.refunds.create({ charge: other.charge.id });
    const id = invoice.id;
    const refusals: [object, object][] = [
      [{ invoice: id, amount: 100 }, { param: 'refund_amount' }],
      [{ invoice: id, amount: 100, refund_amount: 99 }, { param: 'refund_amount' }],
      [{ invoice: id, amount: 1_501, refund_amount: 1_501 }, { param: 'amount' }],
      [{ invoice: id, refund_amount: 1 }, { param: 'amount' }],
      [
        { invoice: 'in_x', amount: 1 },
        { code: 'resource_missing', statusCode: 400 },
      ],
      [
        { invoice: id, lines: [{ type: 'invoice_line_item', invoice_line_item: 'il_x' }] },
        { param: 'lines[0][invoice_line_item]' },
      ],
      [
        {
          invoice: id,
          lines: [{ type: 'invoice_line_item', invoice_line_item: line, quantity: 4 }],
        },
        { param: 'lines[0]' },
      ],
      [{ invoice: id, lines: [{ type: 'custom_line_item' }] }, { param: 'lines[0]' }],
      [
        { invoice: id, amount: 100, refunds: [{ refund: foreign.id }] },
        { param: 'refunds[0][refund]' },
      ],
    ];
    for (const [params, error] of refusals) {
      await expect(stripe.creditNotes.create(params as never)).rejects.toMatchObject(error);
    }
    await stripe.refunds.create({ charge: charge.id, amount: 1_000 });
    await expect(
      stripe.creditNotes.create({ invoice: id, amount: 600, refund_amount: 600 }),
    ).rejects.toThrow('more than what the payments of this invoice have left');
    expect((await stripe.creditNotes.list()).data).toEqual([]);
  });

  it('is previewed without doing anything, changed in words only, and not voided', async () => {
    const { sandbox, stripe, invoice } = await paidInvoice();
    const given = {
      invoice: invoice.id,
      lines: [
        {
          type: 'custom_line_item' as const,
          description: 'goodwill',
          unit_amount: 50,
          quantity: 2,
        },
      ],
      refund_amount: 100,
    };
    expect(
      await eventsOf(sandbox, async () => {
        expect(await stripe.creditNotes.preview(given)).toMatchObject({ total: 100, refunds: [] });
        const lines = await stripe.creditNotes.listPreviewLineItems(given);
        expect(lines.data).toMatchObject([{ description: 'goodwill', amount: 100 }]);
      }),
    ).toEqual([]);
    const { id } = await stripe.creditNotes.create(given);
    expect((await stripe.creditNotes.listLineItems(id)).data).toHaveLength(1);
    const told = await eventsOf(sandbox, () => stripe.creditNotes.update(id, { memo: 'sorry' }));
    expect(told).toMatchObject([
      { type: 'credit_note.updated', data: { previous_attributes: { memo: null } } },
    ]);
    await expect(stripe.creditNotes.voidCreditNote(id)).rejects.toMatchObject({
      code: 'credit_note_unexpected_state',
    });
    expect((await stripe.creditNotes.retrieve(id)).status).toBe('issued');
    await expect(stripe.creditNotes.retrieve('cn_x')).rejects.toMatchObject({ statusCode: 404 });
  });
});

describe('a credit note of an open invoice', () => {
  /** $12.00, sent to the customer and not paid. */
  async function openInvoice() {
    const sandbox = await billingSandbox();
    const { stripe } = sandbox;
    const { id: customer } = await customerWith(sandbox);
    await stripe.invoiceItems.create({ customer, amount: 1_200, currency: 'usd' });
    const draft = await stripe.invoices.create({
      customer,
      collection_method: 'send_invoice',
      days_until_due: 30,
      pending_invoice_items_behavior: 'include',
    });
    await expect(
      stripe.creditNotes.create({ invoice: draft.id ?? '', amount: 1 }),
    ).rejects.toMatchObject({ code: 'invoice_not_editable' });
    const invoice = await stripe.invoices.finalizeInvoice(draft.id ?? '');
    return { sandbox, stripe, customer, id: invoice.id ?? '' };
  }

  it('lowers what is to be paid, comes back when it is voided, and has a page', async () => {
    const { sandbox, stripe, id } = await openInvoice();
    const note = await stripe.creditNotes.create({ invoice: id, amount: 500, memo: 'Sorry' });
    expect(note).toMatchObject({ type: 'pre_payment', pre_payment_amount: 500, refunds: [] });
    expect(await stripe.invoices.retrieve(id)).toMatchObject({
      status: 'open',
      amount_due: 700,
      amount_remaining: 700,
      pre_payment_credit_notes_amount: 500,
    });
    const page = await (await fetch(note.pdf)).text();
    for (const text of [note.number, '$5.00', 'Sorry']) expect(page).toContain(text);
    const told = await eventsOf(sandbox, () => stripe.creditNotes.voidCreditNote(note.id));
    expect(typesOf(told)).toEqual(['credit_note.voided', 'invoice.updated']);
    expect(told[1]?.data.previous_attributes).toMatchObject({ amount_due: 700 });
    await stripe.invoices.pay(id);
    expect(await stripe.invoices.retrieve(id)).toMatchObject({
      status: 'paid',
      amount_paid: 1_200,
    });
    const second = await stripe.creditNotes.create({ invoice: id, amount: 1, refund_amount: 1 });
    expect(second.number).toMatch(/-CN-02$/);
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
  });

  it('over the whole of it pays it, and nobody is charged', async () => {
    const { sandbox, stripe, id } = await openInvoice();
    const told = await eventsOf(sandbox, () =>
      stripe.creditNotes.create({ invoice: id, amount: 1_200, reason: 'duplicate' }),
    );
    expect(typesOf(told)).toEqual(expect.arrayContaining(['credit_note.created', 'invoice.paid']));
    expect(await stripe.invoices.retrieve(id)).toMatchObject({
      status: 'paid',
      amount_due: 0,
      amount_paid: 0,
      total: 1_200,
    });
    expect((await stripe.charges.list()).data).toEqual([]);
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
  });

  it('can give a paid part to the balance of the customer, who pays less next time', async () => {
    const { sandbox, stripe, customer, id } = await openInvoice();
    await sandbox.payInvoice(id, { amount: 400 });
    const note = await stripe.creditNotes.create({
      invoice: id,
      amount: 1_000,
      credit_amount: 200,
      expand: ['customer_balance_transaction'],
    });
    expect(note).toMatchObject({
      type: 'mixed',
      pre_payment_amount: 800,
      post_payment_amount: 200,
      customer_balance_transaction: { amount: -200, type: 'credit_note', credit_note: note.id },
    });
    expect(await stripe.customers.retrieve(customer)).toMatchObject({ balance: -200 });
    expect(await stripe.invoices.retrieve(id)).toMatchObject({ status: 'paid', amount_paid: 400 });
    expect((await sandbox.checkBooks()).contradictions).toEqual([]);
  });
});
