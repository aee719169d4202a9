/** A page of docs/runbooks as a test plays it: its commands, and that none is left out. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import type { World } from './world.ts';

export const PAGES = new URL('../../docs/runbooks/', import.meta.url);

/** What stands in fences of a page: `sh` and `sql` are commands, `text` is what something prints. */
export const LANGUAGES = ['sh', 'sql', 'text'] as const;

export interface Fence {
  language: string;
  text: string;
  /** Of the opening fence, from 1. */
  line: number;
}

/** A word in angle brackets: `<user id>`. */
const PLACEHOLDER = /<([a-z][a-z -]*)>/g;

export interface Played {
  /** What the shell's last command ended with; 0 for SQL. */
  code: number;
  out: string;
  err: string;
  /** Of SQL: the rows of the last statement. */
  // biome-ignore lint/suspicious/noExplicitAny: rows are compared as JSON
  rows: Record<string, any>[];
}

export interface PlayOptions {
  /** How it has to end; default 0. The CLI ends with 1 when it has found something. */
  exit?: number | readonly number[];
  /** Of the shell, beside the world's. */
  env?: Record<string, string>;
}

export interface Page {
  name: string;
  /**
   * Runs the one command of the page that contains `part`, with its placeholders filled in. Rejects
   * when there is none or several, when a placeholder is not filled, or when it ends otherwise.
   */
  play(
    world: World,
    part: string,
    fill?: Record<string, string>,
    options?: PlayOptions,
  ): Promise<Played>;
  /** Commands that were not played, with their lines. */
  unplayed(): string[];
}

export function fencesOf(text: string): Fence[] {
  const fences: Fence[] = [];
  let open: Fence | null = null;
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^ *```(.*)$/.exec(line);
    if (fence === null) {
      if (open !== null) open.text += `${line}\n`;
    } else if (open === null) {
      open = { language: fence[1] ?? '', text: '', line: index + 1 };
    } else {
      fences.push(open);
      open = null;
    }
  }
  return fences;
}

export const isCommand = ({ language }: Fence) => language === 'sh' || language === 'sql';

/** The placeholders of a command, by name. */
export function placeholdersOf(text: string): string[] {
  return [...text.matchAll(PLACEHOLDER)].map(([, name = '']) => name);
}

function openPage(name: string): Page {
  const commands = fencesOf(readFileSync(new URL(name, PAGES), 'utf8')).filter(isCommand);
  const played = new Set<Fence>();
  return {
    name,
    async play(world, part, fill = {}, { exit = 0, env = {} } = {}) {
      const found = commands.filter(({ text }) => text.includes(part));
      const [command] = found;
      if (command === undefined || found.length > 1) {
        throw new Error(`${found.length} commands of ${name} contain ${JSON.stringify(part)}.`);
      }
      const text = command.text.replace(PLACEHOLDER, (_match, key: string) => {
        const value = fill[key];
        if (value === undefined) throw new Error(`The test says nothing for <${key}> in ${name}.`);
        return value;
      });
      played.add(command);
      const answer =
        command.language === 'sql' ? await world.sql(text) : await world.shell(text, env);
      if (![exit].flat().includes(answer.code)) {
        throw new Error(
          `${name}:${command.line} ended with ${answer.code}, not ${exit}:\n${text}\n${answer.out}\n${answer.err}`,
        );
      }
      return answer;
    },
    unplayed: () =>
      commands
        .filter((command) => !played.has(command))
        .map(({ text, line }) => `${name}:${line} ${text.trim()}`),
  };
}

/** The tests of one page. The last of them fails when the page has a command that no other ran. */
export function runbook(name: string, body: (page: Page) => void): void {
  describe(name, () => {
    const page = openPage(name);
    body(page);
    it('has no command that was not run', () => {
      expect(page.unplayed()).toEqual([]);
    });
  });
}
