import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { SettingsError } from './settingsError.ts';

const fileSchema = z.object({
  service_key: z.string().min(1),
  admin_key: z.string().min(1),
  cron_secret: z.string().min(1),
});

export interface LocalKeys {
  serviceKey: string;
  adminKey: string;
  cronSecret: string;
  /** Where they are kept, for the line printed at start. The keys themselves are never printed. */
  path: string;
}

function newKey(kind: 'service' | 'admin' | 'cron'): string {
  return `purser_${kind}_${randomBytes(24).toString('base64url')}`;
}

function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function createFile(dataDir: string, path: string): void {
  mkdirSync(dataDir, { recursive: true });
  const draft = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const keys = {
    service_key: newKey('service'),
    admin_key: newKey('admin'),
    cron_secret: newKey('cron'),
  };
  writeFileSync(draft, `${JSON.stringify(keys, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
  try {
    // A link appears whole and fails if another process was first, so that all processes that
    // start on one folder at once end up with the same keys.
    linkSync(draft, path);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function readKeys(path: string): LocalKeys | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
  let content: unknown = null;
  try {
    content = JSON.parse(text);
  } catch {
    // Falls through to the same message as a file of another shape.
  }
  const parsed = fileSchema.safeParse(content);
  if (!parsed.success) {
    throw new SettingsError([
      {
        variable: 'PURSER_DATA_DIR',
        problem: `holds ${path}, which is not a file of keys`,
        fix: `Delete ${path}; new keys are made at the next start.`,
      },
    ]);
  }
  // Copied or unpacked files lose their mode; others on the machine must not read the keys.
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  const { service_key, admin_key, cron_secret } = parsed.data;
  return { serviceKey: service_key, adminKey: admin_key, cronSecret: cron_secret, path };
}

/**
 * The keys of a local server: made once, kept in a file only its owner can read, so that the
 * quickstart's curl works without setting anything. Never used in production.
 */
export function loadLocalKeys(dataDir: string): LocalKeys {
  const path = join(dataDir, 'keys.json');
  try {
    const existing = readKeys(path);
    if (existing !== null) return existing;
    createFile(dataDir, path);
    const created = readKeys(path);
    if (created !== null) return created;
    throw new Error(`${path} vanished while it was made`);
  } catch (error) {
    if (error instanceof SettingsError) throw error;
    throw new SettingsError([
      {
        variable: 'PURSER_DATA_DIR',
        problem: `cannot keep ${path}: ${(error as Error).message}`,
        fix: 'Set a folder Purser may write to, or set PURSER_SERVICE_KEY, PURSER_ADMIN_KEY and CRON_SECRET.',
      },
    ]);
  }
}
