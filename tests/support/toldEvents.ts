/** What the sandbox tells endpoints of three kinds about one fact, kept for tests to deliver. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type Stripe from 'stripe';
import type { Sandbox } from '../../src/sandbox/index.ts';
import { SUBSCRIBED_TYPES } from '../../src/webhook/subscribedTypes.ts';
import { waitFor } from './stack.ts';

/** `old`: payloads of 2020; `new`: of the SDK's version; `thin`: notifications. */
export type EventForm = 'new' | 'old' | 'thin';

/** An event as one endpoint is told it. */
export type ToldEvent = { id: string; type: string; [field: string]: unknown };

export interface ToldEvents {
  /** Everything told since the last call, oldest first, in one of the forms. */
  since(form: EventForm): Promise<ToldEvent[]>;
  /** One event in one of the forms, by its id in the list of events. */
  of(id: string, form: EventForm): Promise<ToldEvent>;
  stop(): Promise<void>;
}

const OLD_VERSION = '2020-08-27';

export async function keepToldEvents(sandbox: Sandbox, stripe: Stripe): Promise<ToldEvents> {
  const kept = new Map<string, ToldEvent>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const event = JSON.parse(Buffer.concat(chunks).toString('utf8')) as ToldEvent;
      // Both kinds of endpoint tell of the event of the first API.
      kept.set(`${request.url}/${event.snapshot_event ?? event.id}`, event);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const types: readonly string[] = SUBSCRIBED_TYPES;
  const enabledEvents = [...types];
  await sandbox.ensureWebhookEndpoint({ url: `${origin}/new`, enabledEvents });
  await sandbox.ensureWebhookEndpoint({
    url: `${origin}/old`,
    enabledEvents,
    apiVersion: OLD_VERSION,
  });
  await sandbox.ensureWebhookEndpoint({
    url: `${origin}/thin`,
    enabledEvents: types.map((type) => `v1.${type}`),
    payload: 'thin',
  });
  /** The newest event that was given out, or made before anybody listened. */
  let last = (await stripe.events.list({ limit: 1 })).data[0]?.id;

  async function newIds(): Promise<string[]> {
    const ids: string[] = [];
    let newest: string | undefined;
    for await (const { id, type } of stripe.events.list({ limit: 100 })) {
      newest ??= id;
      if (id === last) break;
      if (types.includes(type)) ids.unshift(id);
    }
    last = newest ?? last;
    return ids;
  }

  const of: ToldEvents['of'] = (id, form) =>
    waitFor(() => kept.get(`/${form}/${id}`), `${id} in ${form} form`);

  return {
    async since(form) {
      return Promise.all((await newIds()).map((id) => of(id, form)));
    },
    of,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
