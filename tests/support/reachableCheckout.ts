/** This repository and Node where another account can run them, also from a private home. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { canReach, type ServerAccount } from '../../src/supabase/embedded/account.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Checkout {
  /** Folder with src, tests and node_modules. */
  root: string;
  node: string;
}

export const THIS_CHECKOUT: Checkout = { root: ROOT, node: process.execPath };

/**
 * The checkout itself when the account can reach it and Node; otherwise a copy in `folder`, with
 * the packages hard-linked where the file system allows.
 */
export function reachableCheckout(account: ServerAccount, folder: string): Checkout {
  const modules = realpathSync(path.join(ROOT, 'node_modules'));
  if (canReach(account, ROOT, process.execPath) && canReach(account, path.join(modules, 'tsx'))) {
    return THIS_CHECKOUT;
  }
  const copy: Checkout = { root: path.join(folder, 'checkout'), node: path.join(folder, 'node') };
  mkdirSync(copy.root);
  for (const name of ['src', 'sql', 'tests/support', 'package.json', 'tsconfig.json']) {
    cpSync(path.join(ROOT, name), path.join(copy.root, name), { recursive: true });
  }
  copyFileSync(process.execPath, copy.node);
  execFileSync('chmod', ['-R', 'go+rX', copy.root, copy.node]);
  copyModules(modules, path.join(copy.root, 'node_modules'));
  return copy;
}

function copyModules(from: string, to: string): void {
  const readableByAll = (statSync(path.join(from, 'tsx/package.json')).mode & 0o044) === 0o044;
  try {
    if (!readableByAll) throw new Error('Links share their rights with the files they link.');
    execFileSync('cp', ['-al', from, to], { stdio: 'ignore' });
  } catch {
    // Another file system, or a strict umask at install time: copies it has to be.
    execFileSync('cp', ['-a', from, to], { stdio: 'ignore' });
    execFileSync('chmod', ['-R', 'go+rX', to]);
  }
}
