import type Stripe from 'stripe';
import type { Catalogue, CatalogueEntry } from '../../../catalogue/catalogue.ts';
import { isStripeError } from '../../../checkout/stripeErrors.ts';
import { CannotLook, type Finding, fail, listed, messageOf, ok, type Rule, warn } from '../rule.ts';
import type { Site } from '../site.ts';
import { told } from './settings.ts';

/** Active prices that are looked at; accounts with more are sold from by others too. */
const PRICES_MAX = 1_000;
const PAGE_MAX = 100;

async function activePrices(site: Site): Promise<Stripe.Price[]> {
  const stripe = site.stripe();
  const found: Stripe.Price[] = [];
  try {
    for await (const price of stripe.prices.list({
      active: true,
      limit: PAGE_MAX,
      expand: ['data.product'],
    })) {
      found.push(price);
      if (found.length === PRICES_MAX) break;
    }
  } catch (error) {
    throw new CannotLook(`Stripe did not list its prices: ${messageOf(error)}`, error);
  }
  return found;
}

function productOf(price: Stripe.Price): Stripe.Product | null {
  const { product } = price;
  return typeof product === 'string' || 'deleted' in product ? null : product;
}

const money = (amount: number | null, currency: string) =>
  amount === null ? 'no fixed amount' : `${(amount / 100).toFixed(2)} ${currency}`;

function entryFinding(
  { currency }: Catalogue,
  entry: CatalogueEntry,
  prices: readonly Stripe.Price[],
): Finding | null {
  const price =
    prices.find(({ lookup_key }) => lookup_key === entry.lookupKey) ??
    prices.find(({ id }) => id === entry.priceId);
  if (price === undefined) {
    return fail(
      `${entry.kind} ${entry.id} has no active price in Stripe, so it is not offered.`,
      `Give its price the look-up key ${entry.lookupKey}, or write the price's id into the catalogue.`,
    );
  }
  if (productOf(price)?.active === false) {
    return fail(
      `${entry.id} is sold at ${price.id}, whose product is archived: Stripe refuses the checkout.`,
      'Unarchive the product in Stripe, or move the look-up key to a price of another product.',
    );
  }
  if (price.currency !== currency || price.unit_amount !== entry.unitAmount) {
    return warn(
      `${entry.id} costs ${money(price.unit_amount, price.currency)} in Stripe and ${money(entry.unitAmount, currency)} in the catalogue; buyers pay what Stripe says.`,
      'Correct `amount` in the catalogue, or make a new price in Stripe and move the look-up key there.',
    );
  }
  return null;
}

/** Whether a settled sale of this price credits anything: metadata.credits counts without an entry. */
function credits(catalogue: Catalogue, price: Stripe.Price): boolean {
  const told = price.metadata.credits ?? productOf(price)?.metadata.credits;
  const { id, lookup_key, product } = price;
  return told !== undefined || catalogue.entryOfPrice({ id, lookup_key, product }) !== null;
}

export const pricesRule: Rule = {
  code: 'prices',
  title: 'Catalogue and Stripe sell the same',
  async check(site) {
    const prices = await activePrices(site);
    const catalogue = site.catalogue();
    const entries = [...catalogue.packs, ...catalogue.plans];
    const findings = entries.flatMap((entry) => entryFinding(catalogue, entry, prices) ?? []);
    const silent = prices.filter((price) => !credits(catalogue, price)).map(({ id }) => id);
    if (silent.length > 0) {
      findings.push(
        warn(
          `Active prices that credit nothing when they are paid: ${listed(silent)}.`,
          'Enter them in the catalogue, give the price or product `metadata.credits`, or archive them. Prices of other goods may stay.',
        ),
      );
    }
    return findings.length > 0 ? findings : ok(`All ${entries.length} entries have their price.`);
  },
};

export const modeRule: Rule = {
  code: 'stripe-mode',
  title: 'Keys and prices are of one mode',
  async check(site) {
    const { values, production, problems } = site;
    const own = problems.filter(({ variable }) => variable === 'PURSER_STRIPE');
    if (own.length > 0) return own.map(told);
    const live = values.STRIPE_SECRET_KEY?.includes('_live_') === true;
    if (live && !production && values.PURSER_STRIPE === undefined) {
      return fail(
        'STRIPE_SECRET_KEY is a live key and NODE_ENV is not production: real money is taken under the rules for trials.',
        'Use a test key (sk_test_...) here, or set NODE_ENV=production.',
      );
    }
    const stripe = site.stripe();
    const refusal = await askStripe(stripe);
    if (refusal !== null) return refusal;
    const { packs, plans } = site.catalogue();
    const findings: Finding[] = [];
    for (const { priceId, lookupKey } of [...packs, ...plans]) {
      if (priceId === null) continue;
      const other = await priceOfOtherMode(stripe, priceId, lookupKey, live);
      if (other !== null) findings.push(other);
    }
    return findings.length > 0
      ? findings
      : ok(`The key is a ${live ? 'live' : 'test'} key, and no price is of the other mode.`);
  },
};

/** The first rule that asks Stripe says so when that is in vain; the others are skipped then. */
async function askStripe(stripe: Stripe): Promise<Finding | null> {
  try {
    await stripe.prices.list({ limit: 1 });
    return null;
  } catch (error) {
    const told = `Stripe says: ${messageOf(error)}`;
    if (isStripeError(error) && error.statusCode === 401) {
      return fail(
        `Stripe does not know STRIPE_SECRET_KEY. ${told}`,
        'Copy the key anew from Stripe (Developers > API keys): one that was rolled or deleted has ended.',
      );
    }
    if (isStripeError(error) && error.statusCode === 403) {
      return fail(
        `STRIPE_SECRET_KEY may not read prices. ${told}`,
        'Give the restricted key the permission that Stripe names, or use the secret key.',
      );
    }
    return fail(
      `Stripe does not answer: ${messageOf(error)}`,
      'Check that this machine may reach https://api.stripe.com (or STRIPE_API_BASE), and https://status.stripe.com.',
    );
  }
}

/** Stripe keeps the modes apart: a price of the other one is missing, and its message says so. */
async function priceOfOtherMode(
  stripe: Stripe,
  priceId: string,
  lookupKey: string,
  live: boolean,
): Promise<Finding | null> {
  const named = `the price ${priceId} of the catalogue is of the ${live ? 'test' : 'live'} mode`;
  const fix = `Write the id it has in ${live ? 'live' : 'test'} mode into the catalogue, or drop price_id and let the look-up key ${lookupKey} find it.`;
  try {
    const price = await stripe.prices.retrieve(priceId);
    return price.livemode === live
      ? null
      : fail(`STRIPE_SECRET_KEY is a ${live ? 'live' : 'test'} key, and ${named}.`, fix);
  } catch (error) {
    // Simply missing is another rule's; what Stripe knows in the other mode it says in so many words.
    if (/exists in (?:live|test) mode/.test(messageOf(error))) {
      return fail(`STRIPE_SECRET_KEY is a ${live ? 'live' : 'test'} key, and ${named}.`, fix);
    }
    if (/No such price/.test(messageOf(error))) return null;
    throw new CannotLook(`Stripe was not able to answer: ${messageOf(error)}`, error);
  }
}

export const portalRule: Rule = {
  code: 'billing-portal',
  title: 'The billing portal is configured',
  async check(site) {
    const stripe = site.stripe();
    let saved: Stripe.BillingPortal.Configuration | undefined;
    try {
      const page = await stripe.billingPortal.configurations.list({
        is_default: true,
        active: true,
        limit: 1,
      });
      saved = page.data[0];
    } catch (error) {
      throw new CannotLook(
        `Stripe did not list its portal configurations: ${messageOf(error)}`,
        error,
      );
    }
    return saved === undefined
      ? fail(
          'No default configuration of the customer portal is saved in this mode: POST /api/billing-portal-session fails.',
          'Open Stripe: Settings, Billing, Customer portal, and press "Save"; do it in test and in live mode.',
        )
      : ok(`${saved.id} is saved.`);
  },
};
