import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type ByteSource, randomText } from './ids.ts';

export interface Secrets {
  /** `sk_test_sandbox_...`: the API key. */
  readonly secretKey: string;
  /** `whsec_...`: what endpoints get when the caller names no secret. */
  readonly webhookSecret: string;
}

export function newSecrets(bytes: ByteSource): Secrets {
  return {
    secretKey: `sk_test_sandbox_${randomText(bytes, 24)}`,
    webhookSecret: `whsec_${randomText(bytes, 32)}`,
  };
}

/** Made once per data directory, readable by its owner only; the first of several makers wins. */
export function loadSecrets(dataDir: string, bytes: ByteSource): Secrets {
  const path = join(dataDir, 'secrets.json');
  if (!existsSync(path)) {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const draft = `${path}.${process.pid}.${randomText(bytes, 6)}`;
    writeFileSync(draft, JSON.stringify(newSecrets(bytes), null, 2), { mode: 0o600 });
    try {
      linkSync(draft, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }
  chmodSync(path, 0o600);
  return JSON.parse(readFileSync(path, 'utf8')) as Secrets;
}
