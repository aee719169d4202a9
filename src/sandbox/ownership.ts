import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { askLocal } from './localJson.ts';

/**
 * Which process serves a data directory. Each owner takes the next epoch by creating
 * `owner.<epoch>.json`, which only one can; the highest epoch counts and is never removed, so a slow
 * loser can never mistake an old file for a free directory.
 */
export interface Owner {
  readonly epoch: number;
  readonly pid: number;
  readonly instance: string;
  /** Null until it listens. */
  readonly origin: string | null;
  /** It stopped in good order. */
  readonly released: boolean;
}

const NAME = /^owner\.(\d+)\.json$/;
const HEALTH_TIMEOUT_MS = 2_000;

export function readOwner(dataDir: string): Owner | null {
  if (!existsSync(dataDir)) return null;
  const epochs = readdirSync(dataDir).flatMap((name) => {
    const found = NAME.exec(name);
    return found ? [Number(found[1])] : [];
  });
  if (epochs.length === 0) return null;
  const epoch = Math.max(...epochs);
  return JSON.parse(readFileSync(fileOf(dataDir, epoch), 'utf8')) as Owner;
}

/** True for exactly one caller per epoch. */
export function claim(dataDir: string, owner: Owner): boolean {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const draft = join(dataDir, `claim.${owner.instance}`);
  writeFileSync(draft, JSON.stringify(owner), { mode: 0o600 });
  try {
    // A link appears with its content and fails when the name is taken: no half-written claim.
    linkSync(draft, fileOf(dataDir, owner.epoch));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  // A claim below the highest epoch was made from an old look at the directory.
  if (readOwner(dataDir)?.instance !== owner.instance) {
    rmSync(fileOf(dataDir, owner.epoch), { force: true });
    return false;
  }
  for (const name of readdirSync(dataDir)) {
    const epoch = Number(NAME.exec(name)?.[1] ?? owner.epoch);
    if (epoch < owner.epoch) rmSync(join(dataDir, name), { force: true });
  }
  return true;
}

/** Tells others where this owner listens, or that it has stopped. */
export function publish(dataDir: string, owner: Owner): void {
  const draft = join(dataDir, `claim.${owner.instance}`);
  writeFileSync(draft, JSON.stringify(owner), { mode: 0o600 });
  renameSync(draft, fileOf(dataDir, owner.epoch));
}

type OwnerState = 'serving' | 'starting' | 'silent' | 'gone';

/** `silent`: the process lives and does not answer; taking its place could make two owners. */
export async function stateOf(owner: Owner): Promise<OwnerState> {
  if (owner.released || !isAlive(owner.pid)) return 'gone';
  if (owner.origin === null) return 'starting';
  const health = await askHealth(owner.origin);
  if (health === 'silent') return 'silent';
  // Refused, or somebody else: the process id now belongs to another program.
  return health === owner.instance ? 'serving' : 'gone';
}

/**
 * The instance that answers at this origin; `refused` when nobody or another program does; `silent`
 * when there was a connection and no answer, which proves nothing about who is there.
 */
export async function askHealth(origin: string): Promise<string> {
  try {
    const url = `${origin}/_sandbox/health`;
    const { body } = await askLocal('GET', url, undefined, HEALTH_TIMEOUT_MS);
    const instance = (body as { instance?: unknown } | undefined)?.instance;
    return typeof instance === 'string' ? instance : 'refused';
  } catch (error) {
    const { name, code } = error as NodeJS.ErrnoException;
    return name === 'TimeoutError' || code === 'ECONNRESET' ? 'silent' : 'refused';
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives and belongs to another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function fileOf(dataDir: string, epoch: number): string {
  return join(dataDir, `owner.${epoch}.json`);
}
