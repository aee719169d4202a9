/** Purchases at the sandbox whose events a test delivers itself, when and where it wants. */
import Stripe from 'stripe';
import { loadCatalogue } from '../../src/catalogue/catalogue.ts';
import { sandboxCatalogue } from '../../src/compose/sandboxCatalogue.ts';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { callServer, signToken } from './stack.ts';

const EVENTS_MAX = 1_000;

/** A sandbox that sells the default packs and delivers nothing, and the SDK pointed at it. */
export async function startShop(): Promise<{ sandbox: Sandbox; stripe: Stripe }> {
  const sandbox = await startSandbox();
  await sandbox.seedCatalogue(sandboxCatalogue(loadCatalogue(undefined)));
  const { host, port } = sandbox;
  return { sandbox, stripe: new Stripe(sandbox.secretKey, { host, port, protocol: 'http' }) };
}

/** Opens a checkout through a server's own API and pays it; the id of the session. */
export async function buy(
  sandbox: Sandbox,
  serverUrl: string,
  user: string,
  body: Record<string, unknown> = { plan: 'pack_50' },
): Promise<string> {
  const bearer = await signToken(user);
  const answer = await callServer(serverUrl, 'POST', '/api/checkout-session', { bearer, body });
  if (answer.status !== 200) throw new Error(`No checkout: ${JSON.stringify(answer.body)}`);
  await sandbox.pay(answer.body.session_id);
  return answer.body.session_id;
}

/** Every event of a type, by the checkout session or invoice it is about. */
export async function eventsOfType(
  stripe: Stripe,
  type: Stripe.EventListParams['type'] & string,
): Promise<Map<string, Stripe.Event>> {
  const events = await stripe.events
    .list({ type, limit: 100 })
    .autoPagingToArray({ limit: EVENTS_MAX });
  return new Map(events.map((event) => [(event.data.object as { id: string }).id, event]));
}

/** The event that says that this session is paid. */
export async function completedEvent(stripe: Stripe, sessionId: string): Promise<Stripe.Event> {
  const event = (await eventsOfType(stripe, 'checkout.session.completed')).get(sessionId);
  if (event === undefined) throw new Error(`There is no event of ${sessionId}.`);
  return event;
}
