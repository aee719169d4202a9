import { shellWord } from '../../core/shellWord.ts';
import type { Explanation } from '../../credits/explain.types.ts';
import { createClient, findUrl } from '../client.ts';
import type { AddCommand } from '../command.ts';
import { createShopper, type Shopper } from '../demo/shopper.ts';
import { count, table } from '../table.ts';
import { CliError, EXIT, printJson, type Terminal } from '../terminal.ts';

interface Options {
  user?: string;
  json?: true;
}

/** One thing that was done, and what came of it. */
interface Step {
  title: string;
  /** What happened, in a sentence. */
  told: string;
  balance: number;
  /** Pages and objects to look at. */
  links: string[];
}

export const addDemo: AddCommand = (program, run) => {
  program
    .command('demo')
    .description('Play the whole flow against a local server: buy, spend, refund, subscribe, renew')
    .option('--user <id>', 'the user who buys (default: a new one)')
    .option('--json', 'answer for programs')
    .addHelpText(
      'after',
      '\nNeeds `npm start` without any setting: everything embedded, payments by the\nbuilt-in sandbox. No account and no money are involved.',
    )
    .action(
      run(async (terminal, { user, json }: Options) => {
        const userId = user ?? `demo-${Date.now().toString(36)}`;
        const shopper = await createShopper(terminal, userId);
        const steps: Step[] = [];
        for (const play of [buy, spend, refund, subscribe, renew]) {
          if (terminal.signal.aborted) return EXIT.canceled;
          const step = await play(shopper);
          steps.push(step);
          if (!json) terminal.out(shown(terminal, steps.length, step));
        }
        const path = `/api/admin/users/${encodeURIComponent(userId)}/explain`;
        const { sentences } = await createClient(terminal).get<Explanation>(path);
        if (json) printJson(terminal, { user_id: userId, steps, sentences });
        else terminal.out(ending(terminal, userId, sentences));
        return EXIT.ok;
      }),
    );
};

function shown(terminal: Terminal, number: number, { title, told, balance, links }: Step): string {
  const { colours } = terminal;
  const text = table(
    terminal,
    [{ head: '', width: 2 }, { head: '' }],
    [
      { cells: [colours.cyan(`${number}.`), colours.bold(title)] },
      { cells: ['', told] },
      { cells: ['', `Balance: ${colours.green(count(balance, 'credit'))}`] },
    ],
  );
  // Never broken: terminals open what they can read as one address.
  return [text, ...links.map((link) => `    ${colours.dim(link)}`), ''].join('\n');
}

function ending(terminal: Terminal, userId: string, sentences: readonly string[]): string {
  const { colours } = terminal;
  const url = findUrl(terminal.env);
  const who = shellWord(userId);
  const told = table(
    terminal,
    [{ head: '', width: 2 }, { head: '' }],
    sentences.map((text) => ({ cells: ['', text] })),
  );
  return [
    colours.bold('How the balance came about, as the ledger tells it'),
    told,
    '',
    `The shop:   ${url}/pricing`,
    `The API:    ${url}/api/docs`,
    `Look closer: purser user balance ${who}, purser user history ${who}, purser events`,
  ].join('\n');
}

async function buy(shopper: Shopper): Promise<Step> {
  const { pricing } = shopper;
  const pack = pricing.packs[0];
  if (pack === undefined)
    throw new CliError('The catalogue sells no pack, so there is nothing to buy.');
  const session = await shopper.checkout(pack.id);
  const balance = await shopper.waitForBalance((now) => now >= pack.credits);
  shopper.bought = { session: session.session_id, credits: pack.credits, amount: pack.unit_amount };
  return {
    title: `Buy ${pack.name}`,
    told: `A Checkout session was opened and paid with the card 4242 4242 4242 4242. Stripe’s webhook came, and the session ${session.session_id} was credited once.`,
    balance,
    links: [session.url, `${shopper.url}/success?session_id=${session.session_id}`],
  };
}

async function spend(shopper: Shopper): Promise<Step> {
  const amount = Math.min(5, shopper.bought.credits);
  const key = `demo-${Date.now()}`;
  const first = await shopper.consume(amount, key);
  const again = await shopper.consume(amount, key);
  if (again.transaction_id !== first.transaction_id)
    throw new Error('The replay made a second entry.');
  return {
    title: `Spend ${count(amount, 'credit')}, and send the same request again`,
    told: `Both answers name entry ${first.transaction_id}: the Idempotency-Key makes the second a replay, and nothing is taken twice.`,
    balance: first.balance,
    links: [`POST ${shopper.url}/api/credits/consume`],
  };
}

async function refund(shopper: Shopper): Promise<Step> {
  const before = await shopper.balance();
  const half = Math.floor(shopper.bought.amount / 2);
  await shopper.sandbox('POST', `/charges/${shopper.bought.session}/refund`, { amount: half });
  const balance = await shopper.waitForBalance((now) => now < before);
  return {
    title: 'Refund half of the price',
    told: `Stripe told of the refund, and ${count(before - balance, 'credit')} of the ${shopper.bought.credits} were taken back: as much of them as was refunded of the price.`,
    balance,
    links: [`${shopper.sandboxUrl}/`],
  };
}

async function subscribe(shopper: Shopper): Promise<Step> {
  const plan = shopper.pricing.plans[0];
  if (plan === undefined)
    throw new CliError('The catalogue sells no plan, so there is nothing to subscribe to.');
  const before = await shopper.balance();
  const session = await shopper.checkout(plan.id);
  const balance = await shopper.waitForBalance((now) => now >= before + plan.credits);
  shopper.subscription = await shopper.subscriptionOf(session.session_id);
  return {
    title: `Subscribe to ${plan.name}`,
    told: `The first invoice was paid, and its ${count(plan.credits, 'credit')} came with it.`,
    balance,
    links: [session.url],
  };
}

async function renew(shopper: Shopper): Promise<Step> {
  const before = await shopper.balance();
  await shopper.sandbox('POST', `/subscriptions/${shopper.subscription}/renew`, {});
  const balance = await shopper.waitForBalance((now) => now > before);
  return {
    title: 'A month later: the renewal',
    told: `Stripe billed the next period and told of the paid invoice; ${count(balance - before, 'credit')} more.`,
    balance,
    links: [`${shopper.sandboxUrl}/`],
  };
}
