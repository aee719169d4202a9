import { readFile } from 'node:fs/promises';
import type { Catalogue } from '../catalogue.ts';
import { askLocal } from '../localJson.ts';
import { formatAmount } from '../money.ts';
import { SAMPLE_CATALOGUE } from '../sampleCatalogue.ts';
import { command, limitOption, type Remote, UsageError, word } from './command.ts';

/** Listed unless asked for more; Stripe's pages have at most a hundred. */
const SHOWN_DEFAULT = 20;
const SHOWN_MAX = 100;
const LIST_TIMEOUT_MS = 60_000;

interface Thing {
  readonly id: string;
  readonly status?: string | null;
  readonly payment_status?: string;
  readonly active?: boolean;
  readonly amount?: number;
  readonly amount_total?: number | null;
  readonly total?: number;
  readonly unit_amount?: number | null;
  readonly currency?: string | null;
  readonly created?: number;
  readonly type?: string;
  readonly customer?: string | null;
  readonly email?: string | null;
  readonly name?: string | null;
  readonly lookup_key?: string | null;
  readonly charge?: string | null;
}

/** What is worth a word beside id, state, amount and time. */
const KINDS: Readonly<Record<string, (thing: Thing) => string>> = {
  prices: ({ lookup_key }) => lookup_key ?? '',
  customers: ({ email, name }) => email ?? name ?? '',
  sessions: ({ customer }) => customer ?? '',
  charges: ({ customer }) => customer ?? '',
  subscriptions: ({ customer }) => customer ?? '',
  invoices: ({ customer }) => customer ?? '',
  refunds: ({ charge }) => charge ?? '',
  disputes: ({ charge }) => charge ?? '',
  events: ({ type }) => type ?? '',
};

/** The newest of one kind, by Stripe's own API. */
async function listThings(
  { origin, secretKey }: Remote,
  kind: string,
  limit: number,
): Promise<Thing[]> {
  const path = kind === 'sessions' ? 'checkout/sessions' : kind;
  const status = kind === 'subscriptions' ? '&status=all' : '';
  const url = `${origin}/v1/${path}?limit=${limit}${status}`;
  const answer = await askLocal('GET', url, undefined, LIST_TIMEOUT_MS, {
    authorization: `Bearer ${secretKey}`,
  });
  const { data, error } = answer.body as { data?: Thing[]; error?: { message: string } };
  if (!data) throw new Error(`Stripe sandbox: ${error?.message ?? `HTTP ${answer.status}`}`);
  return data;
}

function lineOf(kind: string, thing: Thing): string {
  const { id, created, currency } = thing;
  const amount = thing.amount ?? thing.amount_total ?? thing.total ?? thing.unit_amount;
  const state = thing.status ?? thing.payment_status ?? (thing.active === false ? 'inactive' : '');
  const cells = [
    created === undefined ? '' : new Date(created * 1_000).toISOString().slice(0, 16),
    id,
    state,
    amount === undefined || amount === null || !currency ? '' : formatAmount(amount, currency),
    KINDS[kind]?.(thing) ?? '',
  ];
  return cells.filter((cell) => cell !== '').join('  ');
}

async function catalogueOf(file: string): Promise<Catalogue> {
  const text = await readFile(file, 'utf8');
  try {
    return JSON.parse(text) as Catalogue;
  } catch (error) {
    throw new UsageError(`${file} is not JSON: ${(error as Error).message}.`);
  }
}

export const thingCommands = {
  catalogue: command({
    usage: '[file.json]',
    about: 'makes products and prices: those of a file, or two samples',
    help: `The file holds {"products": [...], "prices": [...]} with ids of your own; repeating it changes nothing:
  {"products": [{"id": "prod_pack", "name": "50 credits"}],
   "prices": [{"id": "price_pack", "product": "prod_pack", "currency": "usd", "unit_amount": 500}]}
A price may have lookup_key and recurring: {"interval": "month"}.`,
    run: async (sandbox, [file]) => {
      const catalogue = file === undefined ? SAMPLE_CATALOGUE : await catalogueOf(file);
      await sandbox.seedCatalogue(catalogue);
      return { prices: catalogue.prices.map(({ id }) => id) };
    },
    show: ({ prices }) => `To buy: ${prices.join(', ') || 'nothing'}.`,
  }),
  list: command({
    usage: `<${Object.keys(KINDS).join('|')}>`,
    about: 'lists what there is, newest first',
    help: `  --limit <n>  default ${SHOWN_DEFAULT}, at most ${SHOWN_MAX}`,
    options: { limit: { type: 'string' } },
    run: async (sandbox, words, values) => {
      const kind = word(words, 0, 'kind');
      if (!Object.hasOwn(KINDS, kind)) {
        throw new UsageError(
          `The kind must be one of ${Object.keys(KINDS).join(', ')}, not ${kind}.`,
        );
      }
      const limit = limitOption(values, SHOWN_DEFAULT, SHOWN_MAX);
      return { kind, data: await listThings(sandbox, kind, limit) };
    },
    show: ({ kind, data }) =>
      data.length === 0
        ? `There are no ${kind} yet.`
        : data.map((thing) => lineOf(kind, thing)).join('\n'),
  }),
};
