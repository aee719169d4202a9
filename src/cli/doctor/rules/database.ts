import { FILE_FUNCTIONS } from '../../../compose/schema.ts';
import { PurserError } from '../../../core/errors.ts';
import { checksumOf, migrationFiles, STUBS_FILE } from '../../../supabase/migrations.ts';
import { type Finding, fail, listed, ok, type Rule, warn } from '../rule.ts';

const MIGRATE =
  'Run `purser migrate` (or `npm run migrate`), or paste the files of sql/ into the Supabase SQL editor.';

export const migrationsRule: Rule = {
  code: 'migrations',
  title: 'The database has this version’s schema',
  async check(site) {
    const db = await site.database();
    try {
      await db.ping();
    } catch (error) {
      if (!(error instanceof PurserError)) throw error;
      return fail(
        error.message,
        'Check the address and password, that the server runs, and that this machine may reach it.',
      );
    }
    let missing: string[];
    try {
      const answer = await db.rpc<{ missing?: string[] }>('purser_schema_version', {
        p_files: FILE_FUNCTIONS,
      });
      missing = answer.missing ?? [];
    } catch (error) {
      if (!(error instanceof PurserError)) throw error;
      return fail(`The schema is not there: ${error.message}`, MIGRATE);
    }
    if (missing.length > 0) {
      return fail(`These files were never applied: ${listed(missing, 20)}.`, MIGRATE);
    }
    const { applied } = await site.inspect();
    if (applied === null) {
      return ok('Every file is applied; pasted by hand, so changes of a file cannot be told.');
    }
    const stale = migrationFiles()
      .filter(({ name }) => name !== STUBS_FILE)
      .filter(({ name, sql }) => applied[name] !== checksumOf(sql))
      .map(({ name }) => name);
    return stale.length === 0
      ? ok('Every file is applied as it is in this version.')
      : fail(`Changed since they were applied: ${listed(stale, 20)}.`, MIGRATE);
  },
};

export const accessRule: Rule = {
  code: 'row-security',
  title: 'Nobody reads or calls what is not his',
  async check(site) {
    const found = await site.inspect();
    const findings: Finding[] = [];
    if (found.tables_without_rls.length > 0) {
      findings.push(
        fail(
          `Row level security is off on ${listed(found.tables_without_rls)}.`,
          'Run `npm run migrate -- --force`, which turns it on again.',
        ),
      );
    }
    if (found.open_policies.length > 0) {
      findings.push(
        fail(
          `Policies without TO, which are for everybody: ${listed(found.open_policies)}.`,
          'Add `to authenticated` (or `to service_role`): alter policy <name> on <table> to authenticated;',
        ),
      );
    }
    if (found.open_functions.length > 0) {
      findings.push(
        fail(
          `anon or authenticated may call ${listed(found.open_functions)}.`,
          'Run `npm run migrate -- --force`, which takes the right away, and look for a `grant execute on all functions` of your own.',
        ),
      );
    }
    if (found.open_users) {
      findings.push(
        warn(
          'public.users has no row level security, and anon may read it, balances included.',
          'alter table public.users enable row level security, with a policy for each user’s own row; or revoke select on public.users from anon.',
        ),
      );
    }
    return findings.length > 0
      ? findings
      : ok('RLS is on, every policy names its roles, no function is open.');
  },
};

export const usersRule: Rule = {
  code: 'users',
  title: 'Every sign-up has a row, every user one customer',
  async check(site) {
    const found = await site.inspect();
    const findings: Finding[] = [];
    const without = found.sign_ups_without_row;
    if (without !== null && without > 0) {
      findings.push(
        warn(
          `${without} of ${found.sign_ups} people in auth.users have no row in public.users.`,
          'They get one with their first request. For all of them now: npm run migrate -- --auth-trigger.',
        ),
      );
    }
    const doubled = found.doubled_customers;
    if (doubled.length > 0) {
      const names = doubled.map(({ user_id, customers }) => `${user_id} (${customers})`);
      findings.push(
        warn(
          `Users with several customers at Stripe: ${listed(names)}.`,
          'Credits are right whichever pays. Cancel doubled subscriptions in Stripe; `purser user check <id>` shows what each customer has.',
        ),
      );
    }
    return findings.length > 0
      ? findings
      : ok(
          without === null
            ? 'No user has two customers.'
            : 'Nobody lacks a row or has two customers.',
        );
  },
};
