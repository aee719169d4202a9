import { callStripe } from '../../checkout/stripeErrors.ts';
import { readId } from '../../core/stripeFields.ts';
import type { Effect } from '../../credits/effects.ts';
import type { Handler } from './handler.ts';

/**
 * A credit note gives money back by refunds, which take credits back by their own events. What it
 * gives to the customer's balance or out of band takes none: the payment itself stays paid, and the
 * seller may mean it as a favour. But a balance pays for later invoices, which grant again; so
 * somebody should look. Before the invoice was paid, a note only lowers what is to be paid.
 */
export const creditNoteChanged: Handler = async ({ stripe }, event) => {
  const note = await callStripe(() => stripe.creditNotes.retrieve(event.objectId));
  const refunded = note.refunds.reduce((sum, { amount_refunded }) => sum + amount_refunded, 0);
  const elsewhere = note.post_payment_amount - refunded;
  const audit: Effect = {
    kind: 'audit',
    action: `credit_note_${note.status === 'void' ? 'voided' : 'issued'}`,
    user_id: null,
    reason: null,
    after: {
      credit_note: note.id,
      invoice: readId(note.invoice),
      total: note.total,
      refunded,
      without_refund: elsewhere,
    },
  };
  if (note.status === 'void' || elsewhere <= 0) return [audit];
  return [
    audit,
    {
      kind: 'finding',
      code: 'credit_note_without_refund',
      subject: `credit_note:${note.id}`,
      user_id: null,
      detail: { invoice: readId(note.invoice), amount: elsewhere, currency: note.currency },
    },
  ];
};
