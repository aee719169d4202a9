/** The built project where an account without rights can run it. */
import { execFile, spawnSync } from 'node:child_process';
import { copyFileSync, cpSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { buildProject } from '../../support/serverProcess.ts';
import { createTempFolder } from '../../support/tempFolder.ts';

/** The account Debian and most others keep for what shall have no rights. */
export const NOBODY = { uid: 65_534, gid: 65_534 };

/**
 * The folder of the project itself where `nobody` may read it, else a copy of what a server needs:
 * a clone under root's home is closed to every other account.
 */
export async function createReadableProject(): Promise<{ dir: string; remove(): Promise<void> }> {
  const project = await buildProject();
  const tried = spawnSync(process.execPath, ['-e', "import('./dist/config.js')"], {
    cwd: project,
    ...NOBODY,
  });
  if (tried.status === 0) return { dir: project, remove: async () => {} };
  return copyProject(project);
}

const LIST_PACKAGES = ['ls', '--omit=dev', '--all', '--parseable'];

async function copyProject(project: string): Promise<{ dir: string; remove(): Promise<void> }> {
  const copy = createTempFolder('project');
  copyFileSync(path.join(project, 'package.json'), path.join(copy.dir, 'package.json'));
  const copyIn = (folder: string) => {
    const target = path.join(copy.dir, path.relative(project, folder));
    // As they are: Postgres' libraries link to each other, and not back into the closed folder.
    cpSync(folder, target, { recursive: true, verbatimSymlinks: true });
  };
  copyIn(path.join(project, 'dist'));
  const { stdout } = await promisify(execFile)('npm', LIST_PACKAGES, { cwd: project });
  const [, ...packages] = stdout.trim().split('\n');
  for (const folder of packages) copyIn(folder);
  return { dir: copy.dir, remove: async () => copy.remove() };
}
