/** The webhook handler an app had before Purser: it credits at once, by adding to a column. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';

export interface OldHandler {
  url: string;
  /** What went wrong with an event, which Stripe is told with 500. */
  errors: string[];
  stop(): Promise<void>;
}

/** What such an app has, without any of Purser's tables. */
export const OLD_APP_SQL = `
  create table public.users (
    id text primary key, email text, stripe_customer_id text, credits_balance integer default 0);
  create table public.credit_transactions (
    id bigint generated always as identity primary key, user_id text not null references public.users (id),
    amount integer not null, stripe_session_id text unique, created_at timestamptz default now());
  insert into public.users (id, email) values ('ada', 'ada@app.example'), ('bert', 'bert@app.example'), ('cleo', 'cleo@app.example'), ('dora', 'dora@app.example');`;

const CREDITS = 50;

export async function startOldHandler(connectionString: string): Promise<OldHandler> {
  const pool = new pg.Pool({ connectionString, max: 2 });
  const errors: string[] = [];
  async function credit(session: { id: string; metadata: { userId: string } }): Promise<void> {
    const client = await pool.connect();
    try {
      await client.query('begin');
      const { rowCount } = await client.query(
        `insert into credit_transactions (user_id, amount, stripe_session_id) values ($1, $2, $3)
         on conflict (stripe_session_id) do nothing`,
        [session.metadata.userId, CREDITS, session.id],
      );
      if (rowCount === 1) {
        await client.query(
          'update users set credits_balance = credits_balance + $2 where id = $1',
          [session.metadata.userId, CREDITS],
        );
      }
      await client.query('commit');
    } catch (error) {
      await client.query('rollback');
      throw error;
    } finally {
      client.release();
    }
  }
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const { type, data } = JSON.parse(text);
    try {
      if (type === 'checkout.session.completed') await credit(data.object);
      response.end('{}');
    } catch (error) {
      errors.push((error as Error).message);
      response.writeHead(500).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/functions/v1/stripe-webhook`,
    errors,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await pool.end();
    },
  };
}
