import { exchange, findKey, findUrl } from '../client.ts';
import { pause } from '../progress.ts';
import { CliError, EXIT, type Terminal } from '../terminal.ts';

/** Somebody who buys at a local server, and the sandbox that plays the bank. */
export interface Shopper {
  url: string;
  sandboxUrl: string;
  pricing: Pricing;
  /** What the first purchase was; the later steps go by it. */
  bought: { session: string; credits: number; amount: number };
  subscription: string;
  /** Opens a Checkout session and pays it. */
  checkout(plan: string): Promise<{ session_id: string; url: string }>;
  consume(amount: number, key: string): Promise<{ transaction_id: string; balance: number }>;
  balance(): Promise<number>;
  /** Waits for the webhook to have done its work. Errors: `CliError` when it does not. */
  waitForBalance(is: (balance: number) => boolean): Promise<number>;
  subscriptionOf(sessionId: string): Promise<string>;
  sandbox<T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T>;
}

interface Entry {
  id: string;
  name: string;
  credits: number;
  unit_amount: number;
}

interface Pricing {
  mode: string;
  packs: Entry[];
  plans: Entry[];
}

const WAIT_MS = 30_000;
const LOOK_MS = 150;

/** Errors: `CliError` where the server is not a local one with everything embedded. */
export async function createShopper(terminal: Terminal, userId: string): Promise<Shopper> {
  const { env, signal } = terminal;
  const url = findUrl(env);
  const user = {
    'x-user-id': userId,
    'x-user-email': `${userId.replace(/[^\w.-]/g, '-')}@example.com`,
  };
  const call = <T>(
    method: string,
    target: string,
    headers: Record<string, string>,
    body?: unknown,
  ) => send<T>({ url, signal }, method, `${url}${target}`, headers, body);

  const pricing = await call<Pricing>('GET', '/api/pricing', {});
  if (pricing.mode !== 'local') {
    throw new CliError(
      `The server at ${url} runs in ${pricing.mode} mode. The demo buys and refunds by itself, so it plays with the built-in sandbox only: start a server without STRIPE_SECRET_KEY.`,
    );
  }
  const serviceKey = findKey(env, url, 'service').value;
  let sandboxUrl = '';

  const shopper: Shopper = {
    url,
    get sandboxUrl() {
      return sandboxUrl;
    },
    pricing,
    bought: { session: '', credits: 0, amount: 0 },
    subscription: '',
    async checkout(plan) {
      const session = await call<{ session_id: string; url: string }>(
        'POST',
        '/api/checkout-session',
        user,
        { plan },
      );
      // The page where a buyer pays is the sandbox's own, so its address tells where that is.
      sandboxUrl = new URL(session.url).origin;
      await shopper.sandbox('POST', `/checkout/sessions/${session.session_id}/pay`, {});
      return session;
    },
    consume: (amount, key) =>
      call(
        'POST',
        '/api/credits/consume',
        { authorization: `Bearer ${serviceKey}`, 'idempotency-key': key },
        { user_id: userId, amount, description: 'demo' },
      ),
    balance: async () => (await call<{ balance: number }>('GET', '/api/credits', user)).balance,
    async waitForBalance(is) {
      const until = Date.now() + WAIT_MS;
      for (;;) {
        const balance = await shopper.balance();
        if (is(balance)) return balance;
        if (signal.aborted) throw new CliError('Canceled.', EXIT.canceled);
        if (Date.now() > until) {
          throw new CliError(
            `The webhook has not changed the balance within ${WAIT_MS / 1000} s (it is ${balance}). \`purser events\` shows what came in.`,
            EXIT.findings,
          );
        }
        await pause(LOOK_MS, signal);
      }
    },
    async subscriptionOf(sessionId) {
      const { subscriptions } = await call<{ subscriptions: { stripe_subscription_id: string }[] }>(
        'GET',
        `/api/admin/users/${encodeURIComponent(userId)}`,
        { authorization: `Bearer ${findKey(env, url, 'admin').value}` },
      );
      const found = subscriptions[0]?.stripe_subscription_id;
      if (found === undefined)
        throw new CliError(`The session ${sessionId} made no subscription.`, EXIT.findings);
      return found;
    },
    sandbox: (method, path, body) =>
      send({ url: sandboxUrl, signal }, method, `${sandboxUrl}/_sandbox${path}`, {}, body),
  };
  return shopper;
}

async function send<T>(
  { url, signal }: { url: string; signal: AbortSignal },
  method: string,
  target: string,
  headers: Record<string, string>,
  body?: unknown,
): Promise<T> {
  const { status, text } = await exchange(url, target, {
    method,
    signal,
    headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  let answer: { detail?: string; code?: string; error?: { message?: string } };
  try {
    answer = JSON.parse(text);
  } catch {
    throw new CliError(
      `What answers at ${url} is not Purser (${status} for ${new URL(target).pathname}). Check PURSER_URL.`,
    );
  }
  if (status === 401) {
    throw new CliError(
      `The server at ${url} does not take the word of this machine for who somebody is (${answer.detail}). The demo needs one with everything embedded: \`npm start\` without settings.`,
    );
  }
  if (status >= 300) {
    throw new CliError(
      answer.detail ?? answer.error?.message ?? answer.code ?? `${status} for ${target}`,
    );
  }
  return answer as T;
}
