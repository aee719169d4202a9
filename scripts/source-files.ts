/** Reading the tree for the checks. Paths are relative to the repository and use `/`. */
import { readdirSync } from 'node:fs';
import { relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';

const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', 'coverage']);

/** All files below `folder`, sorted; none when the folder does not exist. */
export function listFiles(folder: string): string[] {
  const files: string[] = [];
  const walk = (at: string): void => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      const path = `${at}/${entry.name}`;
      if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name)) walk(path);
      else if (entry.isFile()) files.push(relative('.', path).split(sep).join('/'));
    }
  };
  try {
    walk(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return files.sort();
}

/** True when the module with this URL is the script that was started. */
export function isMain(url: string): boolean {
  const started = process.argv[1];
  return started !== undefined && url === pathToFileURL(started).href;
}
