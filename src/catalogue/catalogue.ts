import { readFileSync } from 'node:fs';
import { PurserError } from '../core/errors.ts';
import { type CatalogueFile, catalogueSchema } from './catalogueSchema.ts';
import { defaultCatalogue } from './defaultCatalogue.ts';
import { type DunningPolicy, toDunningPolicy } from './dunningPolicy.ts';

export interface Pack {
  kind: 'pack';
  id: string;
  name: string;
  description: string | null;
  lookupKey: string;
  /** Ids at Stripe; the look-up key is the link, these are optional shortcuts. */
  priceId: string | null;
  productId: string | null;
  credits: number;
  unitAmount: number;
  expiresAfterDays: number | null;
  invoice: boolean;
}

export interface Plan {
  kind: 'plan';
  id: string;
  name: string;
  description: string | null;
  lookupKey: string;
  priceId: string | null;
  productId: string | null;
  interval: 'month' | 'year';
  credits: number;
  unitAmount: number;
  expiresAfterDays: number | null;
  trialCredits: number;
  rollover: boolean;
  tier: string;
  quotas: Record<string, number>;
  dunning: DunningPolicy;
}

export type CatalogueEntry = Pack | Plan;

/** Which mails customers get. */
export interface MailPolicy {
  /** What the product is called; null = as EMAIL_FROM says. */
  name: string | null;
  /** Where readers get help: an address or a page. */
  support: string | null;
  /** Balance from which on a user is told that it runs low; null = nobody is. */
  lowBalance: number | null;
  /** How many days before credits expire their owner is told; null = nobody is. */
  expiringDays: number | null;
  /** Kinds that are not sent. */
  off: string[];
}

/** What the catalogue needs to know of a Stripe price to find its entry. */
export interface PriceReference {
  id: string;
  lookup_key?: string | null;
  product?: string | { id: string } | null;
}

export interface Catalogue {
  currency: string;
  packs: Pack[];
  plans: Plan[];
  freePlan: { id: string; welcomeCredits: number; quotas: Record<string, number> };
  mail: MailPolicy;
  /** For subscriptions whose plan has no policy of its own. */
  dunning: DunningPolicy;
  /** The entry of that catalogue id, or null. */
  entry(id: string): CatalogueEntry | null;
  /** The entry a Stripe price belongs to: by price id, then look-up key, then product id. */
  entryOfPrice(price: PriceReference): CatalogueEntry | null;
  /** Credits of `units` uses of a feature. Errors: `invalid_request` for an unknown feature. */
  cost(feature: string, units: number): number;
}

function toPack(id: string, pack: NonNullable<CatalogueFile['packs']>[string]): Pack {
  return {
    kind: 'pack',
    id,
    name: pack.name ?? `${pack.credits} credits`,
    description: pack.description ?? null,
    lookupKey: pack.lookup_key ?? id,
    priceId: pack.price_id ?? null,
    productId: pack.product_id ?? null,
    credits: pack.credits,
    unitAmount: pack.amount,
    expiresAfterDays: pack.expires_after_days ?? null,
    invoice: pack.invoice ?? true,
  };
}

function toPlan(
  id: string,
  plan: NonNullable<CatalogueFile['plans']>[string],
  common: CatalogueFile['dunning'],
): Plan {
  return {
    kind: 'plan',
    id,
    name: plan.name ?? id,
    description: plan.description ?? null,
    lookupKey: plan.lookup_key ?? id,
    priceId: plan.price_id ?? null,
    productId: plan.product_id ?? null,
    interval: plan.interval ?? 'month',
    credits: plan.credits,
    unitAmount: plan.amount,
    expiresAfterDays: plan.expires_after_days ?? null,
    trialCredits: plan.trial_credits ?? 0,
    rollover: plan.rollover ?? true,
    tier: plan.tier ?? id,
    quotas: plan.quotas ?? {},
    dunning: toDunningPolicy({ ...common, ...plan.dunning }, `plans.${id}.dunning`),
  };
}

const EXPIRING_DAYS = 7;

/** A fifth of the smallest pack is low, unless the file says otherwise. */
function toMailPolicy({ mail = {} }: CatalogueFile, packs: Pack[]): MailPolicy {
  const smallest = Math.min(...packs.map(({ credits }) => credits));
  const off = mail.off ?? [];
  const low = Number.isFinite(smallest) ? Math.max(1, Math.floor(smallest / 5)) : null;
  const { low_balance: lowBalance = low, expiring_days: days = EXPIRING_DAYS } = mail;
  return {
    name: mail.name ?? null,
    support: mail.support ?? null,
    lowBalance: off.includes('low_balance') ? null : lowBalance,
    expiringDays: off.includes('credits_expiring') ? null : days,
    off,
  };
}

/** Two entries that answer to the same Stripe price would make its credits a matter of luck. */
function findAmbiguity(entries: CatalogueEntry[]): string | null {
  const seen = new Map<string, string>();
  for (const entry of entries) {
    const names = [`id ${entry.id}`, `lookup_key ${entry.lookupKey}`];
    if (entry.priceId) names.push(`price_id ${entry.priceId}`);
    for (const name of names) {
      const other = seen.get(name);
      if (other !== undefined && other !== entry.id) {
        return `${name} belongs to both "${other}" and "${entry.id}"`;
      }
      if (other !== undefined && name.startsWith('id ')) {
        return `"${entry.id}" names both a pack and a plan`;
      }
      seen.set(name, entry.id);
    }
  }
  return null;
}

/** Makes the catalogue of a parsed file. Errors: `invalid_request`, naming every wrong field. */
export function createCatalogue(source: unknown, origin = 'the catalogue'): Catalogue {
  const parsed = catalogueSchema.safeParse(source);
  if (!parsed.success) {
    const errors = parsed.error.issues.map((issue) => ({
      path: issue.path.join('.'),
      message: issue.message,
    }));
    const list = errors.map((error) => `${error.path || '(top)'}: ${error.message}`).join('; ');
    throw new PurserError('invalid_request', {
      detail: `${origin} is not valid. ${list}. A plan's credits are per interval ("month" or "year").`,
      extensions: { errors },
      cause: parsed.error,
    });
  }
  const file = parsed.data;
  const packs = Object.entries(file.packs ?? {}).map(([id, pack]) => toPack(id, pack));
  const plans = Object.entries(file.plans ?? {}).map(([id, plan]) =>
    toPlan(id, plan, file.dunning),
  );
  const entries: CatalogueEntry[] = [...packs, ...plans];
  const ambiguity = findAmbiguity(entries);
  if (ambiguity !== null) {
    throw new PurserError('invalid_request', { detail: `${origin} is ambiguous: ${ambiguity}.` });
  }
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const byPrice = new Map(entries.flatMap((e) => (e.priceId ? [[e.priceId, e] as const] : [])));
  const byLookupKey = new Map(entries.map((entry) => [entry.lookupKey, entry]));
  const byProduct = new Map(
    entries.flatMap((e) => (e.productId ? [[e.productId, e] as const] : [])),
  );
  const features = new Map(Object.entries(file.features ?? {}));

  return {
    currency: file.currency,
    packs,
    plans,
    freePlan: {
      id: file.free_plan?.id ?? 'free',
      welcomeCredits: file.free_plan?.welcome_credits ?? 0,
      quotas: file.free_plan?.quotas ?? {},
    },
    mail: toMailPolicy(file, packs),
    dunning: toDunningPolicy(file.dunning, 'dunning'),
    entry: (id) => byId.get(id) ?? null,
    entryOfPrice(price) {
      const productId = typeof price.product === 'string' ? price.product : price.product?.id;
      return (
        byPrice.get(price.id) ??
        (price.lookup_key ? byLookupKey.get(price.lookup_key) : undefined) ??
        (productId ? byProduct.get(productId) : undefined) ??
        null
      );
    },
    cost(feature, units) {
      const credits = features.get(feature);
      if (credits === undefined) {
        const known = [...features.keys()].join(', ') || 'none';
        throw new PurserError('invalid_request', {
          detail: `There is no feature "${feature}" in the catalogue. Known features: ${known}.`,
          extensions: { errors: [{ path: 'feature', message: 'is not in the catalogue' }] },
        });
      }
      const cost = credits * units;
      if (!Number.isSafeInteger(cost)) {
        throw new PurserError('invalid_request', {
          detail: `${units} units of "${feature}" cost more than 2^53 - 1 credits.`,
          extensions: { errors: [{ path: 'units', message: 'is too large' }] },
        });
      }
      return cost;
    },
  };
}

/** Reads `PURSER_CATALOGUE`, or the default where it is not set. Errors: `invalid_request`. */
export function loadCatalogue(path: string | undefined): Catalogue {
  if (path === undefined) return createCatalogue(defaultCatalogue);
  const origin = `The catalogue ${path} (PURSER_CATALOGUE)`;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new PurserError('invalid_request', {
      detail: `${origin} cannot be read. Give the path of a JSON file, or unset it for the default.`,
      cause,
    });
  }
  try {
    return createCatalogue(JSON.parse(text), origin);
  } catch (cause) {
    if (cause instanceof PurserError) throw cause;
    throw new PurserError('invalid_request', {
      detail: `${origin} is not valid JSON: ${(cause as Error).message}.`,
      cause,
    });
  }
}
