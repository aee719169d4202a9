import type { Refusal } from './resources/charges.ts';

/** Stripe's published test cards, with the end each of them has. */
interface TestCard {
  readonly brand: string;
  readonly funding: string;
  /** Null: the card pays. */
  readonly refusal: Refusal | null;
  /** It can be saved and its holder's checks pass; only charges are refused. */
  readonly attaches?: true;
  /** A charge without its holder asks for him; with him it pays. */
  readonly authenticates?: true;
}

const DECLINED = 'Your card was declined.';

const CARDS: Readonly<Record<string, TestCard>> = {
  '4242424242424242': { brand: 'visa', funding: 'credit', refusal: null },
  '4000056655665556': { brand: 'visa', funding: 'debit', refusal: null },
  '5555555555554444': { brand: 'mastercard', funding: 'credit', refusal: null },
  '4000000000000259': paying(),
  '4000000000002685': paying(),
  '4000000000001976': paying(),
  '4000000000007726': paying(),
  '4000000000005126': paying(),
  '378282246310005': { brand: 'amex', funding: 'credit', refusal: null },
  '4000000000000002': refusing('card_declined', 'generic_decline', DECLINED),
  '4000000000009995': refusing(
    'card_declined',
    'insufficient_funds',
    'Your card has insufficient funds.',
  ),
  '4000000000009987': refusing('card_declined', 'lost_card', DECLINED),
  '4000000000000069': refusing('expired_card', null, 'Your card has expired.'),
  '4000000000000127': refusing('incorrect_cvc', null, "Your card's security code is incorrect."),
  '4000000000000119': refusing(
    'processing_error',
    null,
    'An error occurred while processing your card. Try again in a little bit.',
  ),
  '4000000000000341': {
    ...refusing('card_declined', 'generic_decline', DECLINED),
    attaches: true,
  },
  '4000002760003184': { brand: 'visa', funding: 'credit', refusal: null, authenticates: true },
};

function paying(): TestCard {
  return { brand: 'visa', funding: 'credit', refusal: null };
}

/** Stripe's ready-made payment methods and tokens, by what comes after `pm_card_` or `tok_`. */
const TOKENS: Readonly<Record<string, string>> = {
  visa: '4242424242424242',
  visa_debit: '4000056655665556',
  mastercard: '5555555555554444',
  amex: '378282246310005',
  authenticationRequired: '4000002760003184',
  chargeCustomerFail: '4000000000000341',
  createDispute: '4000000000000259',
  createDisputeProductNotReceived: '4000000000002685',
  createDisputeInquiry: '4000000000001976',
  pendingRefund: '4000000000007726',
  refundFail: '4000000000005126',
  chargeDeclined: '4000000000000002',
  visa_chargeDeclined: '4000000000000002',
  chargeDeclinedExpiredCard: '4000000000000069',
  chargeDeclinedIncorrectCvc: '4000000000000127',
  chargeDeclinedProcessingError: '4000000000000119',
  visa_chargeDeclinedInsufficientFunds: '4000000000009995',
  visa_chargeDeclinedLostCard: '4000000000009987',
};

/** The card number behind `pm_card_visa` or `tok_visa`; null for any other id. */
export function tokenCard(id: string): string | null {
  const name = /^(?:pm_card|tok)_(\w+)$/.exec(id)?.[1];
  return name === undefined ? null : (TOKENS[name] ?? null);
}

function refusing(code: string, decline_code: string | null, message: string): TestCard {
  return { brand: 'visa', funding: 'credit', refusal: { code, decline_code, message } };
}

/** A number with a right check digit that is no test card is declined, as in Stripe's test mode. */
export function testCard(digits: string): TestCard {
  return (
    CARDS[digits] ??
    refusing(
      'card_declined',
      'test_mode_live_card',
      'Your card was declined. Your request was in test mode, but used a non test card.',
    )
  );
}

/** What follows a payment with one of Stripe's cards for it. */
interface AfterCharge {
  /** The holder goes to his bank. */
  readonly dispute?: {
    readonly kind: 'dispute' | 'inquiry';
    readonly reason: 'fraudulent' | 'general' | 'product_not_received';
  };
  /** How a refund to this card goes: `pending` succeeds later, `fails_later` succeeds first. */
  readonly refund?: 'pending' | 'fails_later';
}

/** By the last four digits, which is all that a charge shows of its card. */
const AFTER_CHARGE: Readonly<Record<string, AfterCharge>> = {
  '0259': { dispute: { kind: 'dispute', reason: 'fraudulent' } },
  '2685': { dispute: { kind: 'dispute', reason: 'product_not_received' } },
  '1976': { dispute: { kind: 'inquiry', reason: 'general' } },
  '7726': { refund: 'pending' },
  '5126': { refund: 'fails_later' },
};

export function afterCharge(details: {
  readonly type: string;
  readonly card?: { readonly last4: string };
}): AfterCharge | null {
  return AFTER_CHARGE[details.card?.last4 ?? ''] ?? null;
}

/** The check digit rule of card numbers (Luhn). */
export function isCardNumber(digits: string): boolean {
  if (!/^\d{12,19}$/.test(digits)) return false;
  const sum = [...digits].reverse().reduce((total, digit, at) => {
    const doubled = Number(digit) * (at % 2 === 1 ? 2 : 1);
    return total + (doubled > 9 ? doubled - 9 : doubled);
  }, 0);
  return sum % 10 === 0;
}

/** Stripe's test bank accounts: how the debit ends once the bank has answered. */
export const BANK_ACCOUNTS: Readonly<Record<string, Refusal | null>> = {
  '000123456789': null,
  '000111111113': {
    code: 'account_closed',
    decline_code: null,
    message: "The customer's bank account has been closed.",
  },
  '000222222227': {
    code: 'insufficient_funds',
    decline_code: null,
    message: "The customer's account has insufficient funds to cover this payment.",
  },
};
export const TEST_ROUTING_NUMBER = '110000000';
