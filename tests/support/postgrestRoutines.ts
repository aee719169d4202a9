/** The functions PostgREST knows, and which of them a call means. */
import type pg from 'pg';
import { ApiError } from './postgrestErrors.ts';

export interface RoutineParam {
  name: string;
  type: string;
  required: boolean;
  variadic: boolean;
}

export interface Routine {
  schema: string;
  name: string;
  params: RoutineParam[];
  volatility: 'v' | 's' | 'i';
  returnsSet: boolean;
  returnsComposite: boolean;
  returnsVoid: boolean;
  /** `set ... to ...` clauses of the function that hold for the whole transaction. */
  settings: [name: string, value: string][];
}

const ROUTINES = `
  select n.nspname as schema, p.proname as name, p.provolatile as volatility,
         p.proretset as "returnsSet", p.prorettype = 'void'::regtype as "returnsVoid",
         (coalesce(base.typtype, ret.typtype) = 'c'
           or p.proargmodes::text[] && '{t,b,o}') is true as "returnsComposite",
         coalesce(p.proconfig, '{}') as config,
         (select coalesce(json_agg(json_build_object(
                   'name', a.name, 'type', format_type(a.type, null), 'variadic', a.mode = 'v',
                   'required', a.number <= p.pronargs - p.pronargdefaults) order by a.number), '[]')
            from (select coalesce(u.name, '') as name, u.type, u.mode,
                         row_number() over (order by u.position) as number
                    from (select position, type, name, coalesce(mode, 'i') as mode
                            from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]),
                                        p.proargnames, p.proargmodes)
                                 with ordinality as given (type, name, mode, position)) u
                   where u.mode in ('i', 'b', 'v')) a) as params
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join pg_type ret on ret.oid = p.prorettype
    left join pg_type base on base.oid = ret.typbasetype
   where n.nspname = any($1) and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype`;

/** Settings of a function that PostgREST lifts to the transaction. */
const HOISTED = new Set([
  'statement_timeout',
  'plan_filter.statement_cost_limit',
  'default_transaction_isolation',
]);
/** Types of a single parameter without a name that may take the whole body. */
const BODY_TYPES = new Set(['json', 'jsonb', 'text', 'xml', 'bytea']);

export async function loadRoutines(
  client: pg.ClientBase | pg.Pool,
  schemas: string[],
): Promise<Routine[]> {
  const { rows } = await client.query<Routine & { config: string[] }>(ROUTINES, [schemas]);
  return rows
    .map(({ config, ...routine }) => ({
      ...routine,
      settings: config
        .map((entry) => entry.split(/=(.*)/s).slice(0, 2) as [string, string])
        .filter(([name]) => HOISTED.has(name)),
    }))
    .filter(({ params }) => params.every(({ name }) => name !== '') || isBodyTaker(params));
}

function isBodyTaker(params: RoutineParam[]): boolean {
  const [only, ...others] = params;
  return others.length === 0 && only?.name === '' && BODY_TYPES.has(only.type);
}

function takesJsonBody({ params }: Routine): boolean {
  return isBodyTaker(params) && /^jsonb?$/.test(params[0]?.type ?? '');
}

/**
 * Chosen by the names of the arguments alone, never by their types: all that are required, and
 * none that is unknown.
 */
export function findRoutine(
  routines: Routine[],
  call: { schema: string; name: string; keys: string[]; isPost: boolean },
): Routine {
  const { schema, name, keys, isPost } = call;
  const named = routines.filter((one) => one.schema === schema && one.name === name);
  const fitting = named.filter(({ params }) => fits(params, keys));
  const candidates = fitting.length > 0 || !isPost ? fitting : named.filter(takesJsonBody);
  const [chosen, ...others] = candidates;
  if (chosen === undefined) throw notFound(routines, named, call);
  if (others.length === 0) return chosen;
  const signatures = candidates.map((one) => {
    const params = one.params.map((param) => `${param.name} => ${param.type}`).join(', ');
    return `${one.schema}.${one.name}(${params})`;
  });
  throw new ApiError(300, {
    code: 'PGRST203',
    message: `Could not choose the best candidate function between: ${signatures.join(', ')}`,
    hint:
      'Try renaming the parameters or the function itself in the database so function overloading ' +
      'can be resolved',
  });
}

function fits(params: RoutineParam[], keys: string[]): boolean {
  const known = new Set(params.map(({ name }) => name));
  return (
    !known.has('') &&
    keys.every((key) => known.has(key)) &&
    params.every(({ name, required }) => !required || keys.includes(name))
  );
}

function notFound(
  routines: Routine[],
  named: Routine[],
  { schema, name, keys, isPost }: { schema: string; name: string; keys: string[]; isPost: boolean },
): ApiError {
  const list = keys.join(', ');
  const shown = keys.length === 0 ? ' without parameters' : `(${list})`;
  const searched =
    keys.length === 0
      ? ' without parameters'
      : ` with parameter${keys.length > 1 ? 's' : ''} ${list}`;
  const orBody = isPost ? ' or with a single unnamed json/jsonb parameter' : '';
  const best =
    named.length === 0
      ? mostAlike(
          routines.filter((one) => one.schema === schema).map((one) => one.name),
          name,
        )
      : mostAlike(
          named.map(
            (one) =>
              `(${one.params
                .map((param) => param.name)
                .sort()
                .join(', ')})`,
          ),
          `(${list})`,
        );
  const meant = best === null ? null : named.length === 0 ? best : `${name}${best}`;
  return new ApiError(404, {
    code: 'PGRST202',
    message: `Could not find the function ${schema}.${name}${shown} in the schema cache`,
    details:
      `Searched for the function ${schema}.${name}${searched}${orBody}, but no matches were found ` +
      'in the schema cache.',
    hint: meant === null ? null : `Perhaps you meant to call the function ${schema}.${meant}`,
  });
}

/** PostgREST's fuzzy search in the small: shared groups of three letters, at least a third. */
function mostAlike(texts: string[], wanted: string): string | null {
  const SCORE_MIN = 0.33;
  let best: { text: string; score: number } | null = null;
  for (const text of texts) {
    const score = likeness(text, wanted);
    if (score >= SCORE_MIN && (best === null || score > best.score)) best = { text, score };
  }
  return best?.text ?? null;
}

function likeness(a: string, b: string): number {
  const first = trigrams(a);
  const second = trigrams(b);
  const shared = [...first].filter((gram) => second.has(gram)).length;
  return (2 * shared) / (first.size + second.size);
}

function trigrams(text: string): Set<string> {
  const padded = `-${text.toLowerCase()}-`;
  return new Set(Array.from({ length: padded.length - 2 }, (_, at) => padded.slice(at, at + 3)));
}
