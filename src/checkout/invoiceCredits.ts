/** One line of an invoice whose price is worth credits. */
export interface InvoicePart {
  /** Credits of one unit of the price. */
  credits: number;
  /** Signed, before discounts, in the line's currency; contains quantity and proration. */
  amount: number;
  /** The price of one unit in the line's currency; null for tiered prices. */
  unitAmount: number | null;
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
    const free = part.unitAmount === null || part.unitAmount === 0;
    if (free && part.proration) continue;
    const top = free ? part.credits * part.quantity : part.credits;
    const bottom = free ? 1n : BigInt(part.unitAmount ?? 1);
    const amount = free ? 1n : BigInt(part.amount);
    numerator = numerator * bottom + BigInt(top) * amount * denominator;
    denominator *= bottom;
  }
  return numerator <= 0n ? 0 : Number(numerator / denominator);
}
