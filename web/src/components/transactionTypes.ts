/** The ledger's closed list of entry types in words for the account's owner. */
export const TRANSACTION_TYPES: Record<string, string> = {
  purchase: 'Purchase',
  allocation: 'Plan credits',
  bonus: 'Bonus',
  usage: 'Usage',
  usage_refund: 'Usage returned',
  clawback: 'Taken back',
  clawback_reversal: 'Given back',
  expiration: 'Expired',
  adjustment: 'Adjustment',
};

export function transactionTypeName(type: string): string {
  return TRANSACTION_TYPES[type] ?? type;
}
