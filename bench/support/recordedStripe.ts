/**
 * Stripe at no cost: the official SDK's calls answered from memory with what the sandbox answered
 * once, under other ids. For benches that exclude Stripe's answer time: handlers do all that is
 * theirs to do, and nobody waits for a network.
 */
import type Stripe from 'stripe';

/** Ids that Stripe makes; those of prices and products are the catalogue's and stay. */
const IDS =
  /\b((?:evt|cs_test|pi|in|cus|sub|si|ch|il|li|inpay|txn|pm|ii|mbur|seti|py)_[A-Za-z0-9]{8,})\b/g;
const NUMBERED = /(_[A-Za-z0-9]+?)xN(\d+)\b/g;

/** The same text about the nth of its kind: every id gets a number, `user-0` another user. */
export function numbered(text: string, n: number, users: number): string {
  return text
    .replace(IDS, (id) => `${id}xN${/^(cus|sub|si)_/.test(id) ? n % users : n}`)
    .replaceAll('"user-0"', `"user-${n % users}"`);
}

/** The texts as they were told, and the number they were given. */
function unnumbered(text: string): { text: string; n: number } {
  let n = 0;
  const plain = text.replace(NUMBERED, (_, id: string, digits: string) => {
    n = Math.max(n, Number(digits));
    return id;
  });
  return { text: plain, n };
}

type Page = { data: unknown[] };
// biome-ignore lint/suspicious/noExplicitAny: a path of the SDK, whatever it is
type Callable = any;

/** `stripe` is asked once for each question; the answers after that are made from memory. */
export function recordedStripe(stripe: Stripe, users: number): Stripe {
  const answers = new Map<string, Promise<string>>();

  function ask(path: string[], given: unknown[]): Promise<unknown> {
    const { text, n } = unnumbered(JSON.stringify(given));
    const question = `${path.join('.')}${text}`;
    let answer = answers.get(question);
    if (answer === undefined) {
      const method = path.at(-1) ?? '';
      const owner = path.slice(0, -1).reduce((at: Callable, name) => at[name], stripe);
      answer = Promise.resolve(owner[method](...JSON.parse(text))).then((value) =>
        JSON.stringify(value),
      );
      answers.set(question, answer);
    }
    const told = answer.then((json) => JSON.parse(numbered(json, n, users)));
    return Object.assign(told, {
      autoPagingToArray: async () => ((await told) as Page).data,
      async *[Symbol.asyncIterator]() {
        yield* ((await told) as Page).data;
      },
    });
  }

  function resource(path: string[]): Callable {
    return new Proxy(() => {}, {
      get: (_, name) => (typeof name === 'symbol' ? undefined : resource([...path, name])),
      apply: (_, __, given) => ask(path, given),
    });
  }

  return new Proxy({} as Stripe, {
    get: (_, name) => {
      if (name === 'webhooks') return stripe.webhooks;
      return typeof name === 'symbol' || name === 'then' ? undefined : resource([name]);
    },
  });
}
