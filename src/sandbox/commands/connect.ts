import { createCalls } from '../handle.ts';
import { systemBytes } from '../ids.ts';
import { readOwner, stateOf } from '../ownership.ts';
import { loadSecrets } from '../secrets.ts';
import type { Remote } from './command.ts';

/** The sandbox that serves this data directory. @throws when none does, saying how to start one. */
export async function connect(dataDir: string): Promise<Remote> {
  const owner = readOwner(dataDir);
  const state = owner ? await stateOf(owner) : 'gone';
  if (!owner?.origin || state !== 'serving') {
    throw new Error(
      `No sandbox serves ${dataDir}. Start one there with \`npm run sandbox\` (or start Purser), or name another place with --data-dir.`,
    );
  }
  const { origin } = owner;
  const { secretKey } = loadSecrets(dataDir, systemBytes);
  return { origin, secretKey, ...createCalls(() => origin) };
}
