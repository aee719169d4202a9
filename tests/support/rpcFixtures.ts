import { PurserError } from '../../src/core/errors.ts';
import type { TestDatabase } from './postgres.ts';

/** Functions that behave as ours may, whichever adapter calls them; `log` shows what happened. */
export const RPC_FIXTURES = `
  create table public.log (id bigint generated always as identity, note text);
  create sequence public.calls;
  grant all on public.log, public.calls to service_role;
  create function public.t_echo(p_json jsonb default '"default"', p_text text default 'default',
                                p_number bigint default 0, p_flag boolean default null)
  returns jsonb language sql as $$
    select jsonb_build_object('json', p_json, 'text', p_text, 'number', p_number, 'flag', p_flag) $$;
  create function public.t_note(p_note text) returns jsonb language plpgsql as $$
    begin
      insert into public.log (note) values (p_note);
      return jsonb_build_object('outcome', 'applied');
    end $$;
  create function public.t_raise(p_state text, p_message text, p_detail text default '')
  returns jsonb language plpgsql as $$
    begin
      raise exception using errcode = p_state, message = p_message, detail = p_detail;
    end $$;
  -- A sequence does not roll back, so it counts attempts.
  create function public.t_fail_first(p_times int, p_state text, p_note text)
  returns jsonb language plpgsql as $$
    declare
      v_call bigint := nextval('public.calls');
    begin
      insert into public.log (note) values (p_note);
      if v_call <= p_times then
        raise exception using errcode = p_state, message = 'try again';
      end if;
      return to_jsonb(v_call);
    end $$;
  create function public.t_sleep(p_seconds double precision) returns jsonb language sql as $$
    select to_jsonb(pg_sleep(p_seconds)::text) $$;
  create function public.t_lock(p_key int) returns jsonb language plpgsql as $$
    begin
      perform pg_advisory_xact_lock(p_key);
      return '"locked"'::jsonb;
    end $$;
  create function public.t_broken() returns jsonb language plpgsql as $$
    begin return public.does_not_exist(1); end $$;
  create function public.t_settings() returns jsonb language sql as $$
    select jsonb_build_object('statement', current_setting('statement_timeout'),
      'lock', current_setting('lock_timeout'), 'zone', current_setting('timezone')) $$;`;

/** The error a call ends with; throws when it ends well, or with one that is not ours. */
export async function failureOf(promise: Promise<unknown>): Promise<PurserError> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (error instanceof PurserError) return error;
  throw error;
}

/** What calls of `t_note` and `t_fail_first` left behind, in order. */
export async function notesOf(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ note: string }>('select note from log order by id');
  return rows.map((row) => row.note);
}

/** Forgets notes and counted calls. */
export async function clearNotes(database: TestDatabase): Promise<void> {
  await database.query(`truncate log; select setval('calls', 1, false)`);
}
