import type { Json } from '../../src/core/ports.ts';
import type { SupabaseRole, TestDatabase } from './postgres.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers are compared as JSON
export type Answer = Record<string, any>;

/** Calls a function by named arguments as PostgREST would: as that role, in its own transaction. */
export async function callAs(
  database: TestDatabase,
  role: SupabaseRole,
  name: string,
  args: Record<string, Json | undefined> = {},
  claims: Record<string, unknown> = {},
): Promise<Answer> {
  const given = Object.entries(args).filter(([, value]) => value !== undefined);
  const named = given.map(([key], index) => `${key} => $${index + 1}`).join(', ');
  const values = given.map(([, value]) =>
    value !== null && typeof value === 'object' ? JSON.stringify(value) : value,
  );
  return database.asRole(role, claims, async (client) => {
    const { rows } = await client.query(`select public.${name}(${named}) as answer`, values);
    return rows[0].answer as Answer;
  });
}

export function callAsService(
  database: TestDatabase,
  name: string,
  args: Record<string, Json | undefined> = {},
): Promise<Answer> {
  return callAs(database, 'service_role', name, args);
}

/** Runs `work` for 0 .. n-1 at the same time. */
export function concurrently<T>(n: number, work: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: n }, (_, index) => work(index)));
}

/** How often each value occurs, for exact counts of outcomes. */
export function countBy(values: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
