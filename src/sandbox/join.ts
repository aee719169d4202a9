import { createCalls } from './handle.ts';
import type { Sandbox } from './handle.types.ts';
import { systemBytes } from './ids.ts';
import { askHealth, claim, type Owner, readOwner, stateOf } from './ownership.ts';
import { loadSecrets } from './secrets.ts';
import {
  bindPort,
  claimOrFind,
  DEFAULT_HOST,
  nextOwner,
  type Running,
  run,
  type SandboxOptions,
} from './start.ts';

export type JoinOptions = SandboxOptions & { readonly dataDir: string };

const WATCH_MS = 1_000;
/** Refusals in a row before the owner counts as dead. */
const REFUSALS_MAX = 2;
/** Failed take-overs (a damaged journal, no rights) before this process stops trying. */
const TAKE_OVERS_MAX = 5;

/**
 * Shares the sandbox of a data directory: the first process serves it, the others use it, and when
 * the owner dies one of them serves it on, on the same port and with the same state.
 */
export async function joinOrStartSandbox(options: JoinOptions): Promise<Sandbox> {
  const outcome = await claimOrFind(options);
  const member =
    'other' in outcome
      ? createMember(options, outcome.other, null)
      : createMember(options, null, await run(options, outcome.claimed));
  return {
    ...loadSecrets(options.dataDir, systemBytes),
    ...createCalls(() => member.origin()),
    get origin() {
      return member.origin();
    },
    get host() {
      return new URL(member.origin()).hostname.replace(/^\[|\]$/g, '');
    },
    get port() {
      return Number(new URL(member.origin()).port);
    },
    get joined() {
      return !member.owns();
    },
    stop: member.stop,
  };
}

interface Member {
  origin(): string;
  owns(): boolean;
  stop(): Promise<void>;
}

function createMember(options: JoinOptions, other: Owner | null, own: Running | null): Member {
  const { dataDir, logger } = options;
  let owner = other;
  let running = own;
  let origin = own?.origin ?? other?.origin ?? '';
  let refusals = 0;
  let failures = 0;
  let looking: Promise<void> | null = null;
  let stopped = false;

  const timer = setInterval(() => {
    if (running || looking || stopped) return;
    looking = look()
      .catch((error: unknown) => {
        failures += 1;
        logger?.error('The Stripe sandbox could not be taken over.', { error: String(error) });
        if (failures >= TAKE_OVERS_MAX) clearInterval(timer);
      })
      .finally(() => {
        looking = null;
      });
  }, WATCH_MS);
  timer.unref();

  async function look(): Promise<void> {
    const health = await askHealth(origin);
    // A silent owner still holds the port: waiting is the only way not to have two.
    if (health === owner?.instance || health === 'silent') {
      refusals = 0;
      return;
    }
    const last = readOwner(dataDir);
    const state = last ? await stateOf(last) : 'gone';
    if (last?.origin && state === 'serving') {
      owner = last;
      origin = last.origin;
      refusals = 0;
      return;
    }
    if (state !== 'gone') return;
    refusals += 1;
    if (refusals >= REFUSALS_MAX) await takeOver();
  }

  // The port is bound first: as long as the old owner lives it holds it, so there are never two.
  async function takeOver(): Promise<void> {
    const port = Number(new URL(origin).port);
    const place = await bindPort(options.host ?? DEFAULT_HOST, port).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return null;
      throw error;
    });
    if (!place) return;
    const last = readOwner(dataDir);
    const next = nextOwner(last);
    const free = !last || (await stateOf(last)) === 'gone';
    if (stopped || !free || !claim(dataDir, next)) {
      await place.listener.close();
      return;
    }
    running = await run(options, { owner: next, lastPort: port }, place);
    origin = running.origin;
    clearInterval(timer);
    logger?.info('This process serves the Stripe sandbox now.', { origin });
  }

  return {
    origin: () => origin,
    owns: () => running !== null,
    async stop() {
      stopped = true;
      clearInterval(timer);
      await looking;
      await running?.stop();
    },
  };
}
