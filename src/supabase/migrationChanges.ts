/** What a migration changes in a database, in sentences: for a dry run and for the record. */
import type pg from 'pg';

interface Relation {
  oid: string;
  kind: 'table' | 'function';
  name: string;
  ours: boolean;
}

export interface SchemaSnapshot {
  /** Tables and functions of the schema public. */
  relations: Relation[];
  /** Column of public.users to its type; null = there is no such table. */
  users: Record<string, string> | null;
  /** public.users is kept by Purser. */
  adopted: boolean;
}

interface Openings {
  users: string;
  credited: string;
  credits: string;
  indebted: string;
  debts: string;
}

export async function takeSnapshot(client: pg.Client): Promise<SchemaSnapshot> {
  const { rows } = await client.query(
    `select jsonb_build_object(
       'relations', coalesce((
         select jsonb_agg(r order by r.name) from (
           select c.oid::text as oid, 'table' as kind, c.relname as name,
                  pg_get_userbyid(c.relowner) = 'purser_ledger' as ours
           from pg_class c
           where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
           union all
           select p.oid::text, 'function', p.proname, pg_get_userbyid(p.proowner) = 'purser_ledger'
           from pg_proc p where p.pronamespace = 'public'::regnamespace) r), '[]'),
       'users', (
         select jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
         from pg_attribute a
         where a.attrelid = to_regclass('public.users') and a.attnum > 0 and not a.attisdropped),
       'adopted', exists (
         select from pg_trigger
         where tgrelid = to_regclass('public.users') and tgname = 'purser_money_guard')) as snapshot`,
  );
  return (rows[0] as { snapshot: SchemaSnapshot }).snapshot;
}

/** Compares two snapshots of one transaction; asks for the opening balances where there are any. */
export async function describeChanges(
  client: pg.Client,
  before: SchemaSnapshot,
  after: SchemaSnapshot,
): Promise<string[]> {
  const known = new Map(before.relations.map((relation) => [keyOf(relation), relation]));
  const renamed = after.relations.flatMap((relation) => {
    const old = known.get(keyOf(relation));
    return old === undefined || old.name === relation.name
      ? []
      : [`your ${relation.kind} public.${old.name} is renamed to public.${relation.name}`];
  });
  const made = after.relations.filter((relation) => relation.ours && !known.has(keyOf(relation)));
  const tables = made.filter(({ kind }) => kind === 'table').map(({ name }) => name);
  const functions = made.filter(({ kind }) => kind === 'function').map(({ name }) => name);
  return [
    ...renamed,
    ...(tables.length === 0 ? [] : [`new tables: ${tables.join(', ')}`]),
    ...(functions.length === 0 ? [] : [`new functions: ${functions.length}`]),
    ...usersChanges(before.users, after.users),
    ...(before.users !== null && !before.adopted && after.adopted ? await openings(client) : []),
  ];
}

function keyOf(relation: Relation): string {
  return `${relation.kind} ${relation.oid}`;
}

function usersChanges(before: SchemaSnapshot['users'], after: SchemaSnapshot['users']): string[] {
  if (after === null) return [];
  if (before === null) return ['public.users is made: this database has none'];
  const added = Object.entries(after).filter(([name]) => before[name] === undefined);
  const retyped = Object.entries(after).filter(
    ([name, type]) => before[name] !== undefined && before[name] !== type,
  );
  return [
    ...retyped.map(
      ([name, type]) => `public.users.${name} becomes ${type}, it was ${before[name] ?? ''}`,
    ),
    ...(added.length === 0
      ? []
      : [
          `public.users gets the columns ${added.map(([name, type]) => `${name} ${type}`).join(', ')}`,
        ]),
  ];
}

async function openings(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<Openings>(
    `select count(*) as users,
            count(*) filter (where credits_balance > 0) as credited,
            coalesce(sum(credits_balance) filter (where credits_balance > 0), 0)::text as credits,
            count(*) filter (where credits_balance < 0) as indebted,
            coalesce(-sum(credits_balance) filter (where credits_balance < 0), 0)::text as debts
     from public.users`,
  );
  const found = rows[0] as Openings;
  return [
    `of your ${found.users} users, ${found.credited} open with ${found.credits} credits in all` +
      ` and ${found.indebted} with debts of ${found.debts}`,
  ];
}
