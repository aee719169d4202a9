import { randomUUID } from 'node:crypto';
import { ATTEMPT_TIMEOUT_MS, RETRY_SCHEDULE_MS } from './deliverer.ts';
import { createEngine, type Logger } from './engine.ts';
import { createCalls } from './handle.ts';
import type { Sandbox } from './handle.types.ts';
import { type ByteSource, seededBytes, systemBytes } from './ids.ts';
import { createJournal } from './journal.ts';
import { claim, type Owner, publish, readOwner, stateOf } from './ownership.ts';
import { loadSecrets, newSecrets, type Secrets } from './secrets.ts';
import { assertLoopback, type Handler, type Listener, listen } from './server.ts';

export interface SandboxOptions {
  /** Loopback only. Default 127.0.0.1. */
  readonly host?: string;
  /** 0 (default): the port of the last time where there is one and it is free, else any. */
  readonly port?: number;
  /** Keeps the state on disk; without it everything is forgotten at the end. */
  readonly dataDir?: string;
  /** Milliseconds; the clock of the simulated account (created, expires_at, settling). */
  readonly now?: () => number;
  /** Makes ids and keys repeatable. Not for a data directory that outlives a database of yours. */
  readonly seed?: string;
  /** How long a bank debit takes. Default 5,000 ms. */
  readonly delaySettleMs?: number;
  /** Waits between delivery attempts, milliseconds; its length bounds the attempts. */
  readonly retryScheduleMs?: readonly number[];
  /** An endpoint that has not answered by then has failed. Default 10,000 ms. */
  readonly attemptTimeoutMs?: number;
  /** Default: silent. */
  readonly logger?: Logger;
}

export const DEFAULT_HOST = '127.0.0.1';
const DELAY_SETTLE_MS = 5_000;
/** A data directory whose owner is starting or silent is watched this long before giving up. */
const CLAIM_PATIENCE_MS = 15_000;
const CLAIM_LOOK_MS = 100;

const silent: Logger = { info() {}, warn() {}, error() {} };

/** Starts a sandbox of its own. @throws when another process serves the data directory. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const outcome = await claimOrFind(options);
  if ('other' in outcome) {
    throw new Error(
      `Another process (pid ${outcome.other.pid}) already serves ${options.dataDir} at ${outcome.other.origin}. Use joinOrStartSandbox to share it.`,
    );
  }
  const running = await run(options, outcome.claimed);
  return {
    ...running.secrets,
    ...createCalls(() => running.origin),
    origin: running.origin,
    host: running.host,
    port: running.port,
    joined: false,
    stop: running.stop,
  };
}

export interface Running {
  readonly origin: string;
  readonly host: string;
  readonly port: number;
  readonly secrets: Secrets;
  stop(): Promise<void>;
}

/** The place to serve from: a claimed epoch, or null when nothing is kept on disk. */
type Claimed = { readonly owner: Owner; readonly lastPort: number } | null;

/** Claims the data directory, or finds the live process that has it. */
export async function claimOrFind(
  options: SandboxOptions,
): Promise<{ claimed: Claimed } | { other: Owner }> {
  assertLoopback(options.host ?? DEFAULT_HOST);
  if (process.env.NODE_ENV === 'production') {
    throw new Error(
      'The Stripe sandbox does not start with NODE_ENV=production: its payments are not real. Set STRIPE_SECRET_KEY to use Stripe.',
    );
  }
  const { dataDir } = options;
  if (dataDir === undefined) return { claimed: null };
  const giveUpAt = Date.now() + CLAIM_PATIENCE_MS;
  while (Date.now() < giveUpAt) {
    const last = readOwner(dataDir);
    const state = last ? await stateOf(last) : 'gone';
    if (last && state === 'serving') return { other: last };
    if (state === 'gone') {
      const owner = nextOwner(last);
      if (claim(dataDir, owner)) {
        return {
          claimed: { owner, lastPort: last?.origin ? Number(new URL(last.origin).port) : 0 },
        };
      }
    }
    await new Promise((resolve) => setTimeout(resolve, CLAIM_LOOK_MS));
  }
  const last = readOwner(dataDir);
  throw new Error(
    `The Stripe sandbox in ${dataDir} belongs to process ${last?.pid}, which lives and does not answer. Stop that process, or use another data directory.`,
  );
}

export function nextOwner(last: Owner | null): Owner {
  return {
    epoch: (last?.epoch ?? 0) + 1,
    pid: process.pid,
    instance: randomUUID(),
    origin: null,
    released: false,
  };
}

/** Serves from a claimed place. A port already bound (a take-over) is used as it is. */
export async function run(
  options: SandboxOptions,
  claimed: Claimed,
  bound?: Place,
): Promise<Running> {
  const host = options.host ?? DEFAULT_HOST;
  const { dataDir } = options;
  let owner = claimed?.owner ?? null;
  const tell = (next: Owner) => {
    owner = next;
    if (dataDir !== undefined) publish(dataDir, next);
  };
  let place = bound;
  let stopping: Promise<void> | undefined;
  try {
    place ??= await bind(host, options.port ?? 0, claimed?.lastPort ?? 0);
    const { listener, attach } = place;
    const origin = `http://${host.includes(':') ? `[${host}]` : host}:${listener.port}`;
    const { engine, secrets } = open(options, claimed, origin);
    attach(engine.handle);
    if (owner) tell({ ...owner, origin });
    return {
      origin,
      host,
      port: listener.port,
      secrets,
      stop() {
        stopping ??= (async () => {
          await listener.close();
          await engine.stop();
          if (owner) tell({ ...owner, released: true });
        })();
        return stopping;
      },
    };
  } catch (error) {
    await place?.listener.close();
    if (owner) tell({ ...owner, released: true });
    throw error;
  }
}

function open(options: SandboxOptions, claimed: Claimed, origin: string) {
  const { dataDir, seed, logger = silent } = options;
  // With the epoch in the seed a restart does not repeat the ids of the objects it finds.
  const bytes: ByteSource =
    seed === undefined ? systemBytes : seededBytes(`${seed}:${claimed?.owner.epoch ?? 0}`);
  const secretBytes = seed === undefined ? systemBytes : seededBytes(`${seed}:secrets`);
  const secrets =
    dataDir === undefined ? newSecrets(secretBytes) : loadSecrets(dataDir, secretBytes);
  const engine = createEngine({
    journal: dataDir === undefined ? undefined : createJournal(dataDir),
    bytes,
    now: options.now ?? Date.now,
    origin,
    secretKey: secrets.secretKey,
    instance: {
      instance: claimed?.owner.instance ?? randomUUID(),
      pid: process.pid,
      webhookSecret: secrets.webhookSecret,
    },
    delaySettleMs: options.delaySettleMs ?? DELAY_SETTLE_MS,
    retryScheduleMs: options.retryScheduleMs ?? RETRY_SCHEDULE_MS,
    attemptTimeoutMs: options.attemptTimeoutMs ?? ATTEMPT_TIMEOUT_MS,
    logger,
  });
  return { engine, secrets };
}

/** A bound port. Requests that come before `attach` are answered 503 and may be sent again. */
interface Place {
  readonly listener: Listener;
  attach(handler: Handler): void;
}

export async function bindPort(host: string, port: number): Promise<Place> {
  let handler: Handler = () => ({
    status: 503,
    headers: { 'content-type': 'application/json', 'retry-after': '1' },
    body: JSON.stringify({ error: { type: 'api_error', message: 'The sandbox is starting.' } }),
  });
  const listener = await listen(host, port, (request) => handler(request));
  return {
    listener,
    attach(next) {
      handler = next;
    },
  };
}

async function bind(host: string, port: number, lastPort: number): Promise<Place> {
  if (port !== 0 || lastPort === 0) return bindPort(host, port);
  try {
    return await bindPort(host, lastPort);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    return bindPort(host, 0);
  }
}
