import type Stripe from 'stripe';
import { type Catalogue, loadCatalogue } from '../../catalogue/catalogue.ts';
import { type Environment, type ReadVariables, readVariables } from '../../config/readVariables.ts';
import { chooseParts, findProblems, type Parts } from '../../config/rules.ts';
import type { SettingProblem } from '../../config/settingsError.ts';
import type { Values } from '../../config/variables.ts';
import type { Database, Logger } from '../../core/ports.ts';
import { createStripeClient } from '../../stripe/stripeClient.ts';
import { embeddedPostgresExists, startEmbeddedPostgres } from '../../supabase/embeddedPostgres.ts';
import { createPgDatabase } from '../../supabase/pgDatabase.ts';
import { createWebhookProbe, type WebhookProbe } from './probe.ts';
import { CannotLook, messageOf } from './rule.ts';

/** What `inspect_installation()` of the database answers; see sql/health_migration.sql. */
export interface Installation {
  now: string;
  applied: Record<string, string> | null;
  tables_without_rls: string[];
  open_policies: string[];
  open_functions: string[];
  open_users: boolean;
  sign_ups: number | null;
  sign_ups_without_row: number | null;
  doubled_customers: { user_id: string; customers: number }[];
}

/** One installation as the doctor finds it: its settings, and its parts when a rule asks for them. */
export interface Site {
  env: Environment;
  values: Values;
  parts: Parts;
  production: boolean;
  /** All that is wrong with settings, alone or together, and white space that was removed. */
  problems: readonly SettingProblem[];
  warnings: ReadVariables['warnings'];
  /** True when the variable is set and cannot be used. */
  isWrong(...names: string[]): boolean;
  /** Where Stripe delivers to. */
  webhookUrl: string;
  probe: WebhookProbe;
  /** Errors: `CannotLook` for the sandbox or an unusable key. */
  stripe(): Stripe;
  /** Errors: `CannotLook` when no database can be chosen; not asked whether it answers. */
  database(): Promise<Database>;
  /** Errors: `CannotLook` when the database does not answer, or lacks the function. */
  inspect(): Promise<Installation & { skewMs: number }>;
  /** Errors: `invalid_request` for a file that is not a catalogue. */
  catalogue(): Catalogue;
  nowMs(): number;
  /** As `process.versions.node` has it. */
  nodeVersion: string;
  close(): Promise<void>;
}

export interface SiteOptions {
  env: Environment;
  nowMs?: () => number;
  nodeVersion?: string;
}

/** The doctor reports by itself; what parts would log is not for the screen. */
const SILENT: Logger = { error() {}, warn() {}, info() {}, debug() {} };
const PORT_DEFAULT = 3000;
/** Where a server listens that listens everywhere. */
const EVERYWHERE = new Set(['0.0.0.0', '::']);

/** Nothing is opened before a rule asks for it. */
export function openSite({ env, nowMs = Date.now, nodeVersion }: SiteOptions): Site {
  const read = readVariables(env);
  const { values } = read;
  const production = values.NODE_ENV === 'production';
  const wrong = new Set(read.problems.map(({ variable }) => variable));
  for (const [name, alias] of read.aliases) if (wrong.has(alias)) wrong.add(name);
  const problems = [...read.problems, ...findProblems(values, production, wrong)];
  const parts = chooseParts(values);
  const isWrong = (...names: string[]) => names.some((name) => wrong.has(name));
  const closers: (() => Promise<void>)[] = [];
  let database: Promise<Database> | null = null;
  let inspected: ReturnType<Site['inspect']> | null = null;
  let stripe: Stripe | null = null;

  async function openDatabase(): Promise<Database> {
    if (isWrong('DATABASE_URL', 'SUPABASE_URL', 'SUPABASE_SECRET_KEY')) {
      throw new CannotLook('The settings of the database are wrong; see the rules on settings.');
    }
    if (values.DATABASE_URL !== undefined) {
      return keep(createPgDatabase({ connectionString: values.DATABASE_URL, logger: SILENT }));
    }
    if (values.SUPABASE_URL !== undefined) {
      const { createSupabaseDatabase } = await import('../../supabase/supabaseDatabase.ts');
      const secretKey = values.SUPABASE_SECRET_KEY ?? '';
      return keep(createSupabaseDatabase({ url: values.SUPABASE_URL, secretKey, logger: SILENT }));
    }
    const dataDir = values.PURSER_DATA_DIR ?? '.purser';
    if (!embeddedPostgresExists(dataDir)) {
      throw new CannotLook(
        `There is no embedded database in ${dataDir} yet; the first start makes it.`,
      );
    }
    const embedded = await startEmbeddedPostgres({ dataDir });
    closers.push(() => embedded.stop());
    return keep(createPgDatabase({ connectionString: embedded.connectionString, logger: SILENT }));
  }

  function keep(db: Database): Database {
    closers.push(() => db.close());
    return db;
  }

  const site: Site = {
    env,
    values,
    parts,
    production,
    problems,
    warnings: read.warnings,
    isWrong,
    webhookUrl: `${baseUrl(values, env)}/api/webhooks/stripe`,
    probe: createWebhookProbe(() => site),
    stripe() {
      if (parts.stripe === 'sandbox' && !isWrong('STRIPE_SECRET_KEY')) {
        throw new CannotLook('The built-in sandbox stands in for Stripe and sets this up itself.');
      }
      if (values.STRIPE_SECRET_KEY === undefined || isWrong('STRIPE_API_BASE')) {
        throw new CannotLook('The settings of Stripe are wrong; see the rules on settings.');
      }
      stripe ??= createStripeClient({
        secretKey: values.STRIPE_SECRET_KEY,
        apiBase: values.STRIPE_API_BASE,
      });
      return stripe;
    },
    database() {
      database ??= openDatabase();
      return database;
    },
    inspect() {
      inspected ??= inspect(site);
      return inspected;
    },
    catalogue: () => loadCatalogue(values.PURSER_CATALOGUE),
    nowMs,
    nodeVersion: nodeVersion ?? process.versions.node,
    async close() {
      // The last opened first: a client before the server it talks to.
      for (const close of closers.splice(0).reverse()) await close();
    },
  };
  return site;
}

async function inspect(site: Site): Promise<Installation & { skewMs: number }> {
  const db = await site.database();
  const askedAt = site.nowMs();
  try {
    const installation = await db.rpc<Installation>('inspect_installation');
    const answeredAt = site.nowMs();
    // The clock is read somewhere between question and answer: the middle is off by half at most.
    const skewMs = (askedAt + answeredAt) / 2 - Date.parse(installation.now);
    return { ...installation, skewMs };
  } catch (error) {
    throw new CannotLook(
      `The database could not be asked (see "migrations"): ${messageOf(error)}`,
      error,
    );
  }
}

function baseUrl(values: Values, env: Environment): string {
  const { HOST: host = '127.0.0.1', PORT: port = PORT_DEFAULT } = values;
  const local = `http://${EVERYWHERE.has(host) ? '127.0.0.1' : host}:${port || PORT_DEFAULT}`;
  return values.PUBLIC_URL ?? (env.PURSER_URL?.trim().replace(/\/+$/, '') || local);
}
