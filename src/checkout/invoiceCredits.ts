/** One line of an invoice whose price is worth credits. */
export interface InvoicePart {
  /** Credits of one unit of the price. */
  credits: number;
  /** Signed, before discounts, in the line's currency; contains quantity and proration. */
  amount: number;
  /**
   * The price of one unit in the line's currency, as a decimal ("12.5") where it is below the
   * smallest unit; null for tiered prices.
   */
  unitAmount: number | string | null;
  quantity: number;
  proration: boolean;
}

/**
 * Credits of an invoice: max(0, floor(sum of credits * amount / unitAmount)), exactly, with one
 * floor at the end. Credits follow money, so one formula serves seats, proration, coupons and
 * trials. A price that costs nothing has no money to follow: credits * quantity, unless it is a
 * proration, which is then worth nothing.
 */
export function invoiceCredits(parts: InvoicePart[]): number {
  let numerator = 0n;
  let denominator = 1n;
  for (const part of parts) {
    const unit = toFraction(part.unitAmount);
    if (unit === null && part.proration) continue;
    // credits * amount / unitAmount; of a price that costs nothing, credits * quantity.
    const top =
      BigInt(part.credits) * (unit ? BigInt(part.amount) * unit.scale : BigInt(part.quantity));
    const bottom = unit ? unit.value : 1n;
    numerator = numerator * bottom + top * denominator;
    denominator *= bottom;
  }
  return numerator <= 0n ? 0 : Number(numerator / denominator);
}

/** True for prices without an amount of their own: free ones and tiered ones. */
export function costsNothing(unitAmount: InvoicePart['unitAmount']): boolean {
  return toFraction(unitAmount) === null;
}

/** "12.5" = 125 / 10, exactly. Null for nothing. */
function toFraction(amount: number | string | null): { value: bigint; scale: bigint } | null {
  if (amount === null) return null;
  const [, whole = '', decimals = ''] = /^(\d+)(?:\.(\d+))?$/.exec(String(amount)) ?? [];
  const value = BigInt(whole + decimals || '0');
  return value === 0n ? null : { value, scale: 10n ** BigInt(decimals.length) };
}
