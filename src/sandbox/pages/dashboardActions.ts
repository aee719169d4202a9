import { badRequest } from '../errors.ts';
import { decodeForm, type FormObject } from '../form.ts';
import { SAMPLE_CATALOGUE } from '../sampleCatalogue.ts';

/** A call of the control API. */
export interface ControlCall {
  readonly method: 'POST' | 'PUT';
  readonly path: string;
  readonly body: object;
}

interface PageAction {
  readonly calls: (form: Fields) => readonly ControlCall[];
  /** Told when it is done, from the answer of the last call. */
  readonly said: (answer: Answer) => string;
}
type Fields = (name: string) => string;
type Answer = { readonly [field: string]: unknown };

const control = (method: 'POST' | 'PUT', path: string, body: object = {}): ControlCall => ({
  method,
  path: `/_sandbox/${path}`,
  body,
});
const segment = encodeURIComponent;

/** What each form of the desk does: nothing that the control API cannot. */
const ACTIONS: Readonly<Record<string, PageAction>> = {
  advance: {
    calls: (form) => [
      control(
        'POST',
        'clock/advance',
        form('to') === '' ? { days: number(form, 'days') } : { to: dayOf(form('to')) },
      ),
    ],
    said: ({ done, now_iso, tasks, attempts }) =>
      `The clock is at ${String(now_iso).slice(0, 16).replace('T', ' ')} UTC: ${count(tasks, 'thing')} happened, ${count(attempts, 'webhook attempt')}.${done ? '' : ' More is due: advance again.'}`,
  },
  freeze: {
    calls: () => [control('POST', 'clock/freeze')],
    said: () => 'The clock stands still.',
  },
  flow: { calls: () => [control('POST', 'clock/flow')], said: () => 'The clock runs.' },
  buy: {
    calls: (form) => [
      control('POST', 'buy', {
        price: form('price'),
        quantity: number(form, 'quantity'),
        ...(form('customer') === '' ? {} : { customer: form('customer') }),
        ...(form('email') === '' ? {} : { email: form('email') }),
        ...howPaid(form('how')),
      }),
    ],
    said: ({ outcome, session }) =>
      outcome === 'declined'
        ? 'The card was declined; the session is still open.'
        : `Bought: ${String((session as Answer).id).slice(0, 24)}... is ${String((session as Answer).payment_status)}.`,
  },
  refund: {
    calls: (form) => [
      control('POST', `charges/${segment(form('id'))}/refund`, {
        ...(form('amount') === '' ? {} : { amount: cents(form) }),
        ...(form('course') === '' ? {} : { course: form('course') }),
      }),
    ],
    said: ({ refund }) => `Refund ${String((refund as Answer).id)} is ${status(refund)}.`,
  },
  end_refund: {
    calls: (form) => [
      control('POST', `refunds/${segment(form('id'))}/end`, { status: form('status') }),
    ],
    said: ({ refund }) => `Refund ${String((refund as Answer).id)} is ${status(refund)}.`,
  },
  dispute: {
    calls: (form) => [
      control('POST', `charges/${segment(form('id'))}/dispute`, { kind: form('kind') }),
    ],
    said: ({ dispute }) => `Dispute ${String((dispute as Answer).id)}: ${status(dispute)}.`,
  },
  decide: {
    calls: (form) => [
      control('POST', `disputes/${segment(form('id'))}/decide`, { status: form('status') }),
    ],
    said: ({ dispute }) => `Dispute ${String((dispute as Answer).id)}: ${status(dispute)}.`,
  },
  settle: {
    calls: (form) => [
      control('POST', `checkout/sessions/${segment(form('id'))}/settle`, {
        outcome: form('outcome'),
      }),
    ],
    said: ({ session }) => `The bank answered: ${String((session as Answer).payment_status)}.`,
  },
  renew: {
    calls: (form) => [control('POST', `subscriptions/${segment(form('id'))}/renew`)],
    said: ({ invoice }) =>
      invoice
        ? `Renewed: invoice ${String((invoice as Answer).id)} is ${status(invoice)}.`
        : 'Renewed.',
  },
  cancel: {
    calls: (form) => [control('POST', `subscriptions/${segment(form('id'))}/cancel`)],
    said: () => 'The subscription has ended.',
  },
  pause: {
    calls: (form) => [control('POST', `subscriptions/${segment(form('id'))}/pause`)],
    said: () => 'The subscription is paused.',
  },
  resume: {
    calls: (form) => [control('POST', `subscriptions/${segment(form('id'))}/resume`)],
    said: () => 'The subscription goes on.',
  },
  fail_payments: {
    calls: (form) => [control('POST', `customers/${segment(form('id'))}/fail_payments`)],
    said: () => 'The next payment of this customer will be declined.',
  },
  pay_invoice: {
    calls: (form) => [control('POST', `invoices/${segment(form('id'))}/pay`)],
    said: ({ invoice }) => `Invoice ${String((invoice as Answer).id)} is ${status(invoice)}.`,
  },
  break: {
    calls: (form) => [control('PUT', 'faults', { rules: [deliveryFault(form)] })],
    said: () => 'Deliveries are broken now.',
  },
  break_api: {
    calls: (form) => [control('PUT', 'api_faults', { rules: [apiFault(form)] })],
    said: () => 'The API is broken now.',
  },
  mend: {
    calls: () => [
      control('PUT', 'faults', { rules: [] }),
      control('PUT', 'api_faults', { rules: [] }),
    ],
    said: () => 'All is well again. What was lost can be sent once more.',
  },
  resend: {
    calls: (form) => [control('POST', `events/${segment(form('id'))}/resend`)],
    said: () => 'Sent once more.',
  },
  endpoint: {
    calls: (form) => [
      control('PUT', 'webhook_endpoint', {
        url: form('url'),
        payload: form('payload') === 'thin' ? 'thin' : 'snapshot',
        ...(form('version') === '' ? {} : { api_version: form('version') }),
      }),
    ],
    said: ({ secret }) => `Events are sent there, signed with ${String(secret)}.`,
  },
  sample: {
    calls: () => [control('PUT', 'catalogue', SAMPLE_CATALOGUE)],
    said: () => 'There are two prices to buy now.',
  },
};

/** @throws ApiError for an unknown action, or a field that cannot be. */
export async function runAction(
  name: string,
  body: string,
  act: (call: ControlCall) => Promise<unknown>,
): Promise<{ said: string; answer: Answer }> {
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (!action) throw badRequest(`The desk has no action called ${name}.`);
  const form = decodeForm(body);
  let answer: Answer = {};
  for (const call of action.calls((field) => textOf(form, field))) {
    answer = (await act(call)) as Answer;
  }
  return { said: action.said(answer), answer };
}

function textOf(form: FormObject, name: string): string {
  const value = form[name];
  return typeof value === 'string' ? value.trim() : '';
}

function number(form: Fields, name: string): number {
  const value = Number(form(name));
  if (form(name) === '' || !Number.isFinite(value)) {
    throw badRequest(`${name} must be a number, not "${form(name)}".`, { param: name });
  }
  return value;
}

/** `5.50` in the currency's own places. */
function cents(form: Fields): number {
  const places =
    new Intl.NumberFormat('en', {
      style: 'currency',
      currency: form('currency').toUpperCase() || 'USD',
    }).resolvedOptions().maximumFractionDigits ?? 2;
  return Math.round(number(form, 'amount') * 10 ** places);
}

/** The first moment of a day. */
function dayOf(text: string): string {
  const moment = new Date(`${text}T00:00:00Z`);
  if (Number.isNaN(moment.getTime())) {
    throw badRequest(`${text} is not a day like 2027-01-31.`, { param: 'to' });
  }
  return moment.toISOString();
}

function howPaid(how: string): object {
  if (how === 'by_hand') return { pay: false };
  return /^\d+$/.test(how) ? { card_number: how } : { outcome: how || 'succeeded' };
}

function deliveryFault(form: Fields): object {
  const kinds: Readonly<Record<string, object>> = {
    duplicate: { duplicate: 2 },
    delay: { delay_ms: 10_000 },
    reorder: { reorder: 3 },
    drop: { drop: true },
    wrong_secret: { wrong_secret: true },
    lose_answer: { lose_answer: 1 },
    down: { down: true },
  };
  return {
    ...chosen(kinds, form('kind')),
    ...(form('types') === '' ? {} : { types: form('types').split(/[\s,]+/) }),
    ...(form('times') === '' || form('kind') === 'down' ? {} : { times: number(form, 'times') }),
  };
}

function apiFault(form: Fields): object {
  const kinds: Readonly<Record<string, object>> = {
    rate: { status: 429 },
    down: { status: 503 },
    after: { status: 500, carried_out: true },
    lost: { answer: 'lost', carried_out: true },
  };
  return {
    ...chosen(kinds, form('kind')),
    ...(form('path') === '' ? {} : { path: form('path') }),
    ...(form('times') === '' ? {} : { times: number(form, 'times') }),
  };
}

function chosen(kinds: Readonly<Record<string, object>>, kind: string): object {
  const found = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (!found) throw badRequest('Choose what is to break.', { param: 'kind' });
  return found;
}

function status(thing: unknown): string {
  return String((thing as Answer).status).replaceAll('_', ' ');
}

function count(value: unknown, name: string): string {
  return `${String(value)} ${name}${value === 1 ? '' : 's'}`;
}
