import { existsSync } from 'node:fs';
import path from 'node:path';
import { loadLocalKeys } from '../config/localKeys.ts';
import { CliError, type Terminal } from './terminal.ts';

/** A running server, as commands talk to it. */
export interface Client {
  /** Without a slash at the end. */
  url: string;
  /** Errors: `CliError` with what to do, for a server that is away, a wrong key, any refusal. */
  get<T>(path: string, query?: Record<string, string | number | undefined>): Promise<T>;
  post<T>(path: string, body?: unknown, headers?: Record<string, string>): Promise<T>;
}

const ANSWER_MS = 60_000;
const PORT_DEFAULT = '3000';
const LOOPBACK = /^(?:127\.|localhost$|\[?::1\]?$)/;

interface Problem {
  code?: string;
  detail?: string;
  request_id?: string;
  errors?: { path: string; message: string }[];
}

/**
 * The server of PURSER_URL, else the one on this machine, with PURSER_ADMIN_KEY, else the key that
 * `npm start` keeps in PURSER_DATA_DIR. That one is sent to this machine only: a mistyped address
 * must not learn it.
 */
export function createClient({ env, signal }: Pick<Terminal, 'env' | 'signal'>): Client {
  const url = findUrl(env);
  const key = findKey(env, url, 'admin');
  const send = (method: string, target: string, body?: unknown, headers = {}) =>
    request({ url, key: key.value, keyName: key.name, signal }, method, target, body, headers);
  return {
    url,
    get: (target, query = {}) => {
      const search = new URLSearchParams();
      for (const [name, value] of Object.entries(query)) {
        if (value !== undefined) search.set(name, String(value));
      }
      const text = search.toString();
      return send('GET', text === '' ? target : `${target}?${text}`) as Promise<never>;
    },
    post: (target, body = {}, headers = {}) =>
      send('POST', target, body, headers) as Promise<never>,
  };
}

export function findUrl(env: Terminal['env']): string {
  const text = env.PURSER_URL?.trim() || localUrl(env);
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new CliError(`PURSER_URL is not an http(s) address: ${JSON.stringify(text)}.`);
  }
  return text.replace(/\/+$/, '');
}

function localUrl(env: Terminal['env']): string {
  const host = env.HOST?.trim() || '127.0.0.1';
  const port = env.PORT?.trim() || PORT_DEFAULT;
  return `http://${host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host}:${port === '0' ? PORT_DEFAULT : port}`;
}

/** Errors: `CliError` when there is none to use. */
export function findKey(
  env: Terminal['env'],
  url: string,
  kind: 'admin' | 'service',
): { value: string; name: string } {
  const variable = kind === 'admin' ? 'PURSER_ADMIN_KEY' : 'PURSER_SERVICE_KEY';
  const [given] = (env[variable] ?? '').split(',').map((one) => one.trim());
  if (given) return { value: given, name: variable };
  if (!LOOPBACK.test(new URL(url).hostname)) {
    throw new CliError(
      `${variable} is not set. Set it to a key of the server at ${url}; local keys are sent to this machine only.`,
    );
  }
  const dataDir = env.PURSER_DATA_DIR?.trim() || '.purser';
  if (!existsSync(path.join(dataDir, 'keys.json'))) {
    throw new CliError(
      `There is no ${kind} key: ${variable} is not set, and ${dataDir} holds no keys.json. ` +
        'Start a server here first (npm start), set PURSER_DATA_DIR to its folder, or set the key.',
    );
  }
  const keys = loadLocalKeys(dataDir);
  return { value: kind === 'admin' ? keys.adminKey : keys.serviceKey, name: keys.path };
}

interface Target {
  url: string;
  key: string;
  keyName: string;
  signal: AbortSignal;
}

async function request(
  { url, key, keyName, signal }: Target,
  method: string,
  target: string,
  body: unknown,
  headers: Record<string, string>,
): Promise<unknown> {
  const { status, text } = await exchange(url, `${url}${target}`, {
    method,
    // A change that was sent is waited for, also after Ctrl-C: its answer says what to undo.
    signal: AbortSignal.any([
      ...(method === 'GET' ? [signal] : []),
      AbortSignal.timeout(ANSWER_MS),
    ]),
    redirect: 'manual',
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = parse(text);
  if (status >= 200 && status < 300 && answer !== null) return answer;
  throw refusal({ url, target, keyName, status, problem: answer as Problem | null });
}

/** One HTTP exchange. Errors: `CliError` when nothing answers, or Ctrl-C came. */
export async function exchange(
  url: string,
  target: string,
  init: RequestInit,
): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(target, init);
    return { status: response.status, text: await response.text() };
  } catch (error) {
    if (init.signal?.aborted && (init.signal.reason as Error)?.name !== 'TimeoutError') {
      throw new CliError('Canceled.', 130);
    }
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
    const reason = cause?.code ?? (error as Error).name;
    throw new CliError(
      `No server answers at ${url} (${reason}). Start one with \`npm start\`, or set PURSER_URL to where it runs.`,
    );
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // told as "not Purser"
  }
}

function refusal(given: {
  url: string;
  target: string;
  keyName: string;
  status: number;
  problem: Problem | null;
}): CliError {
  const { url, target, keyName, status, problem } = given;
  if (problem?.code === undefined) {
    return new CliError(
      `What answers at ${url} is not Purser (${status} for ${target}). Check PURSER_URL.`,
    );
  }
  if (status === 401) {
    return new CliError(
      `The server at ${url} does not know the key of ${keyName}. Set PURSER_ADMIN_KEY to one of its admin keys${keyName.endsWith('keys.json') ? ', or PURSER_DATA_DIR to the folder it was started with' : ''}.`,
    );
  }
  if (status === 403) {
    return new CliError(
      `The key of ${keyName} is no admin key of ${url}: ${problem.detail ?? ''}`.trim(),
    );
  }
  const detail = problem.detail ?? problem.code;
  // The sentence names the first of them itself.
  const others = problem.errors?.filter(({ message }) => !detail.includes(message)) ?? [];
  const fields = others.map((one) => `\n  ${one.path}: ${one.message}`).join('');
  const id = status >= 500 && problem.request_id ? ` (request ${problem.request_id})` : '';
  return new CliError(`${detail}${id}${fields}`, status === 404 ? 1 : 2);
}
