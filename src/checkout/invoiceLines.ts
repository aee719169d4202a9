import type Stripe from 'stripe';
import type { Plan } from '../catalogue/catalogue.ts';
import { readLinePrice, readLineProration } from '../core/stripeFields.ts';
import type { Effect } from '../credits/effects.ts';
import { creditsOfPrice } from './creditsOfPrice.ts';
import { costsNothing, type InvoicePart } from './invoiceCredits.ts';
import { type KeptPrice, readPrice } from './readPrice.ts';
import type { SettlementBase } from './settlement.ts';
import { callStripe } from './stripeErrors.ts';

const LINES_MAX = 1000;

export interface LineWorth {
  credits: number;
  name: string;
  catalogueId: string | null;
  expiresAfterDays: number | null;
  /** True for plans, those without an entry in the catalogue as well. */
  fromPlan: boolean;
  /** The catalogue's plan. */
  plan: Plan | null;
}

/** A line of an invoice whose price is worth credits. */
export interface InvoiceLine {
  id: string;
  priceId: string;
  worth: LineWorth;
  part: InvoicePart;
  /** What the line pays for; the period of the invoice itself is the one before. */
  periodStart: Date;
  periodEnd: Date;
}

/** The worth of a price with a `plan` or `credits`, or why it has none. */
export function worthOfKeptPrice(
  { catalogue }: Pick<SettlementBase, 'catalogue'>,
  price: KeptPrice,
): LineWorth | { problem: string | null } {
  const worth = creditsOfPrice(catalogue, price);
  switch (worth.kind) {
    case 'plan': {
      const { credits, name, id: catalogueId, expiresAfterDays } = worth.plan;
      return { credits, name, catalogueId, expiresAfterDays, fromPlan: true, plan: worth.plan };
    }
    case 'worth': {
      const { credits, name, catalogueId, expiresAfterDays } = worth.worth;
      return {
        credits,
        name,
        catalogueId,
        expiresAfterDays,
        fromPlan: price.recurring,
        plan: null,
      };
    }
    case 'invalid':
      return { problem: worth.reason };
    case 'foreign':
      return { problem: null };
  }
}

/** The lines that are worth credits, all pages; the others are noted where somebody should look. */
export async function readInvoiceLines(
  deps: SettlementBase,
  invoice: Stripe.Invoice,
): Promise<{ lines: InvoiceLine[]; effects: Effect[] }> {
  // The invoice itself brings its first ten.
  const items = invoice.lines.has_more
    ? await callStripe(() =>
        deps.stripe.invoices
          .listLineItems(invoice.id, { limit: 100 })
          .autoPagingToArray({ limit: LINES_MAX }),
      )
    : invoice.lines.data;
  const lines: InvoiceLine[] = [];
  const effects: Effect[] = [];
  function note(item: Stripe.InvoiceLineItem, priceId: string, reason: string): void {
    effects.push({
      kind: 'finding',
      code: 'line_without_credits',
      subject: `invoice:${invoice.id}:${item.id}`,
      user_id: invoice.metadata?.userId ?? null,
      detail: { price_id: priceId, reason },
    });
  }
  for (const item of items) {
    const priceId = readLinePrice(item)?.price;
    if (priceId === undefined) continue;
    const price = await readPrice(deps, priceId);
    const worth = worthOfKeptPrice(deps, price);
    if ('problem' in worth) {
      if (worth.problem !== null) note(item, priceId, worth.problem);
      continue;
    }
    const part: InvoicePart = {
      credits: worth.credits,
      amount: item.amount,
      unitAmount: price.unit_amounts[item.currency] ?? null,
      quantity: item.quantity ?? 1,
      proration: readLineProration(item),
    };
    if (part.proration && item.amount !== 0 && costsNothing(part.unitAmount)) {
      note(item, priceId, `the price ${priceId} has no amount to share a part of a period by`);
    }
    lines.push({
      id: item.id,
      priceId,
      worth,
      part,
      periodStart: new Date(item.period.start * 1000),
      periodEnd: new Date(item.period.end * 1000),
    });
  }
  return { lines, effects };
}
