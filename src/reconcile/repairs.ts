import type { Json } from '../core/ports.ts';
import { shellQuoted } from '../core/shellWord.ts';
import type { Repair } from './reconcile.types.ts';

/** What to do about each kind of finding, also about those that webhooks and other jobs note. */

interface About {
  subject: string;
  userId: string | null;
  detail: Record<string, unknown>;
}

function curl(
  method: 'GET' | 'POST',
  path: string,
  body?: Record<string, Json>,
  idempotencyKey?: string,
): string {
  return [
    'curl -sS',
    ...(method === 'POST' ? ['-X POST'] : []),
    `"$PUBLIC_URL"${shellQuoted(path)}`,
    '-H "Authorization: Bearer $PURSER_ADMIN_KEY"',
    ...(idempotencyKey === undefined
      ? []
      : [`-H ${shellQuoted(`Idempotency-Key: ${idempotencyKey}`)}`]),
    ...(body === undefined
      ? []
      : ['-H "Content-Type: application/json"', `-d ${shellQuoted(JSON.stringify(body))}`]),
  ].join(' ');
}

const userPath = (userId: string) => encodeURIComponent(userId);

const fixUser = ({ userId }: About, reason: string): string | null =>
  userId === null
    ? null
    : curl('POST', `/api/admin/stripe/fix-user/${userPath(userId)}`, { reason });

const checkUser = ({ userId }: About): string | null =>
  userId === null ? null : curl('GET', `/api/admin/stripe/check-user/${userPath(userId)}`);

const idOf = (subject: string) => subject.slice(subject.indexOf(':') + 1);

function adjustBack({ userId, detail, subject }: About): string | null {
  const amount = Number(detail.amount);
  if (userId === null || !Number.isSafeInteger(amount) || amount <= 0) return null;
  return curl(
    'POST',
    `/api/admin/users/${userPath(userId)}/adjust`,
    { amount: -amount, reason: `${subject} is not an object of this Stripe account and mode` },
    `orphan:${String(detail.transaction_id ?? subject)}`.slice(0, 255),
  );
}

function adjustDifference({ userId, detail, subject }: About): string | null {
  const amount = Number(detail.expected) - Number(detail.granted);
  if (userId === null || !Number.isSafeInteger(amount) || amount === 0) return null;
  return curl(
    'POST',
    `/api/admin/users/${userPath(userId)}/adjust`,
    { amount, reason: `${subject} is worth ${detail.expected} credits` },
    `correct:${subject}`.slice(0, 255),
  );
}

const writeMirror = (what: string): Repair => ({
  kind: 'write_mirror',
  sentence: `The copy in Redis ${what}. The ledger decides, so the copy is written anew.`,
  command: curl('POST', '/api/admin/stripe/reconcile', {}),
});

const REPAIRS: Readonly<Record<string, (about: About) => Repair>> = {
  missing_grant: (about) => ({
    kind: 'settle',
    sentence: 'Paid at Stripe and not in the ledger. Reconciliation grants it under its own key.',
    command: fixUser(about, 'the purchase is missing'),
  }),
  unassigned_purchase: ({ detail }) => ({
    kind: 'assign_user',
    sentence:
      'Paid, and nobody is known as the buyer. Link its Stripe customer to a user with PUT /api/users/:userId {"stripe_customer_id"}; or fetch its event and claim it among the parked events.',
    command:
      typeof detail.created === 'string'
        ? curl('POST', '/api/admin/stripe/replay-missed-events', { since: detail.created })
        : curl('GET', '/api/admin/stripe/parked'),
  }),
  unpaid_grant: (about) => ({
    kind: 'adjust_credits',
    sentence:
      'Credits were granted, and Stripe does not say that it was paid. Look at the object; take the credits back if nothing is on its way.',
    command: adjustBack(about),
  }),
  amount_differs: (about) => ({
    kind: 'review',
    sentence:
      'The ledger noted another amount of money than Stripe has. Compare both, and adjust the credits where they are wrong.',
    command: checkUser(about),
  }),
  credits_differ: (about) => ({
    kind: 'adjust_credits',
    sentence:
      'Another number of credits was granted than the line items are worth by today’s catalogue. If the catalogue has not changed since, adjust the difference.',
    command: adjustDifference(about),
  }),
  payment_differs: (about) => ({
    kind: 'settle',
    sentence:
      'Refunds or disputes at Stripe are not in the ledger. Reconciliation reads the payment whole and takes back, or gives back, what follows.',
    command: fixUser(about, 'a refund or dispute is missing'),
  }),
  subscription_differs: (about) => ({
    kind: 'settle',
    sentence:
      'The subscription is in another state at Stripe. Reconciliation takes Stripe’s state over.',
    command: fixUser(about, 'the subscription differs'),
  }),
  unassigned_subscription: () => ({
    kind: 'assign_user',
    sentence:
      'A subscription to one of your plans belongs to a customer nobody knows. Link the customer with PUT /api/users/:userId {"stripe_customer_id"}, or name the subscription to POST /api/admin/stripe/fix-user/:userId.',
    command: null,
  }),
  orphaned_grant: (about) => ({
    kind: 'adjust_credits',
    sentence:
      'Credits were granted by an object that this Stripe account does not have in this mode: from a test, another account, or by hand. Take them back, or resolve the finding with the reason why they may stay.',
    command: adjustBack(about),
  }),
  orphaned_subscription: (about) => ({
    kind: 'review',
    sentence:
      'A subscription in the book that this Stripe account does not have in this mode. The user keeps its plan until you decide: resolve the finding with the reason.',
    command: checkUser(about),
  }),
  settlement_conflict: (about) => ({
    kind: 'review',
    sentence:
      'The object is credited to another user, or two entries share its identities. Nothing was written. Find out whose it is and adjust.',
    command: checkUser(about),
  }),
  settlement_failed: () => ({
    kind: 'retry',
    sentence: 'Stripe’s answer about the object could not be worked on. The next run tries again.',
    command: curl('POST', '/api/admin/stripe/reconcile', {}),
  }),
  mirror_behind: () => writeMirror('is older than the ledger'),
  mirror_ahead: () => writeMirror('is ahead of the ledger'),
  mirror_differs: () => writeMirror('has other numbers than the ledger'),
  mirror_orphaned: () => writeMirror('is of a user who is gone'),
  source_conflict: (about) => ({
    kind: 'review',
    sentence:
      'A Stripe object that is credited already was claimed for another user or entry. Nothing was written.',
    command: checkUser(about),
  }),
  source_amount_differs: (about) => ({
    kind: 'review',
    sentence:
      'An object that was credited came again with another number of credits. The first one stands; adjust it where it is wrong.',
    command: checkUser(about),
  }),
  livemode_mixed: () => ({
    kind: 'change_endpoint',
    sentence:
      'An event of the other mode came to this endpoint. Remove the endpoint from that mode in Stripe’s dashboard.',
    command: null,
  }),
  foreign_account: () => ({
    kind: 'change_endpoint',
    sentence:
      'An event of another account came. Let the endpoint listen to events of your own account only.',
    command: null,
  }),
  credit_note_without_refund: (about) => ({
    kind: 'review',
    sentence:
      'A credit note gave money back without a refund, so no credits were taken back. Adjust them if they should be.',
    command: checkUser(about),
  }),
  line_without_credits: () => ({
    kind: 'change_catalogue',
    sentence:
      'Something was paid for whose price says nothing usable about credits. Add it to the catalogue, or mend metadata.credits, and work on its events again.',
    command: null,
  }),
};

/** The repair that is proposed; null for kinds that only their own report explains. */
export function repairOf(code: string, about: About): Repair | null {
  if (code.startsWith('credit_drift_') && about.userId !== null) {
    return {
      kind: 'sync_user',
      sentence:
        'The user’s sums do not follow from the entries. Run this in the SQL editor; it answers what is left for a person.',
      command: `select sync_user_credits('${about.userId.replaceAll("'", "''")}');`,
    };
  }
  const propose = Object.hasOwn(REPAIRS, code) ? REPAIRS[code] : undefined;
  return propose?.(about) ?? null;
}

/** For the kinds reconciliation itself finds, which all have one. */
export function proposeRepair(code: string, about: About): Repair {
  const repair = repairOf(code, about);
  if (repair === null)
    throw new TypeError(`There is no repair for ${code} of ${idOf(about.subject)}.`);
  return repair;
}
