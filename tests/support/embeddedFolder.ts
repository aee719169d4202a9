/** Data folders for tests of the embedded database, and looks at what lies and runs there. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import type { ServerAccount } from '../../src/supabase/embedded/account.ts';
import { servesFolder } from '../../src/supabase/embedded/processes.ts';
import type { EmbeddedPostgres } from '../../src/supabase/embeddedPostgres.ts';
import { reachableCheckout, THIS_CHECKOUT } from './reachableCheckout.ts';
import { createTempFolder } from './tempFolder.ts';

const CHILD = 'tests/support/embeddedChild.ts';

export interface EmbeddedChild {
  process: ChildProcess;
  /** What the child's start answered; rejects with its stderr when it failed. */
  started: Promise<Omit<EmbeddedPostgres, 'stop'>>;
  /** Sends the signal and resolves with the exit code, or the signal that ended it. */
  end(signal: NodeJS.Signals): Promise<number | string | null>;
}

export interface EmbeddedFolder {
  dataDir: string;
  /** Pid of the live server of this folder, or null. */
  serverPid(): number | null;
  /** Names in the home folder that a stopped server may not leave. */
  leftovers(): string[];
  spawnChild(mode?: 'hold' | 'exit', account?: ServerAccount): EmbeddedChild;
  /** True while initdb has begun and the cluster is not there yet. */
  initRuns(): boolean;
  /** A process that has nothing to do with us, under another account. */
  spawnStranger(account: { uid: number; gid: number }): ChildProcess;
  /** Ends what still runs there and removes all of it. */
  remove(): Promise<void>;
}

/** `inside` makes the data folder a subfolder of the temp folder. */
export function createEmbeddedFolder(inside = ''): EmbeddedFolder & { root: string } {
  const folder = createTempFolder('embedded');
  const dataDir = path.join(folder.dir, inside);
  const home = path.join(dataDir, 'postgres');
  const children: ChildProcess[] = [];
  const codeFolders: Array<{ dir: string; remove: () => void }> = [];
  const codeFolder = (): string => {
    const created = createTempFolder('checkout');
    codeFolders.push(created);
    return created.dir;
  };

  const placeOf = (): string => {
    const state = path.join(home, 'state.json');
    if (!existsSync(state)) return home;
    return (JSON.parse(readFileSync(state, 'utf8')) as { place?: string }).place ?? home;
  };
  const serverPid = (): number | null => {
    const file = path.join(placeOf(), 'cluster', 'postmaster.pid');
    if (!existsSync(file)) return null;
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
    return servesFolder(pid, path.dirname(file)) ? pid : null;
  };

  return {
    root: folder.dir,
    dataDir,
    serverPid,
    leftovers() {
      const names = [...readdirSync(home), ...readdirSync(placeOf())];
      const running = names.filter((name) => /^start\.lock$|^init-|\.draft$/.test(name));
      if (existsSync(path.join(placeOf(), 'cluster', 'postmaster.pid')))
        running.push('postmaster.pid');
      return [...running, ...readdirSync(path.join(home, 'users'))];
    },
    spawnChild(mode = 'hold', account) {
      const checkout = account ? reachableCheckout(account, codeFolder()) : THIS_CHECKOUT;
      const child = spawn(checkout.node, ['--import', 'tsx', CHILD, dataDir, mode], {
        cwd: checkout.root,
        stdio: ['ignore', 'pipe', 'pipe'],
        ...(account ? { uid: account.uid, gid: account.gid } : {}),
        env: { ...process.env, NODE_OPTIONS: '', HOME: folder.dir, TMPDIR: '/tmp' },
      });
      children.push(child);
      return {
        process: child,
        started: firstAnswer(child),
        end: (signal) => endChild(child, signal),
      };
    },
    initRuns() {
      if (!existsSync(home) || existsSync(path.join(placeOf(), 'cluster'))) return false;
      return readdirSync(placeOf()).some((name) => {
        const draft = path.join(placeOf(), name, 'cluster', 'base');
        return name.startsWith('init-') && existsSync(draft);
      });
    },
    spawnStranger(account) {
      const stranger = spawn('sleep', ['600'], { stdio: 'ignore', ...account });
      children.push(stranger);
      return stranger;
    },
    async remove() {
      for (const child of children) await endChild(child, 'SIGKILL');
      const pid = serverPid();
      if (pid !== null) {
        process.kill(pid, 'SIGQUIT');
        while (serverPid() !== null) await new Promise((resolve) => setTimeout(resolve, 10));
      }
      const place = placeOf();
      if (place !== home) rmSync(place, { recursive: true, force: true });
      folder.remove();
      for (const created of codeFolders) created.remove();
    },
  };
}

async function firstAnswer(child: ChildProcess): Promise<Omit<EmbeddedPostgres, 'stop'>> {
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8');
  });
  if (!child.stdout) throw new Error('The child has no stdout.');
  const lines = readline.createInterface({ input: child.stdout });
  for await (const line of lines) return JSON.parse(line) as Omit<EmbeddedPostgres, 'stop'>;
  throw new Error(`The child ended without an answer: ${stderr}`);
}

async function endChild(
  child: ChildProcess,
  signal: NodeJS.Signals,
): Promise<number | string | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signal);
    await once(child, 'exit');
  }
  return child.exitCode ?? child.signalCode;
}
