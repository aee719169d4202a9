import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { fencesOf, isCommand, LANGUAGES, PAGES, placeholdersOf } from './page.ts';

const HERE = new URL('./', import.meta.url);
const pages = readdirSync(PAGES).filter((name) => name.endsWith('.md'));
const textOf = (name: string) => readFileSync(new URL(name, PAGES), 'utf8');
const index = textOf('README.md');
const tests = readdirSync(HERE)
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => readFileSync(new URL(name, HERE), 'utf8'))
  .join('\n');

/** What every page of a symptom or a procedure says, in this order. */
const HEADINGS = ['You notice', 'It means', 'Purser does by itself', 'You do', 'It is over when'];

describe.each(pages)('%s', (name) => {
  const text = textOf(name);

  it('is played by one test, which sees to it that every command is run', () => {
    expect(tests.split(`runbook('${name}'`)).toHaveLength(2);
  });

  it('has commands in fences of a known kind only, so that none escapes its test', () => {
    const fences = fencesOf(text);
    expect(
      fences.filter(({ language }) => !(LANGUAGES as readonly string[]).includes(language)),
    ).toEqual([]);
    expect(fences.some(isCommand)).toBe(true);
    const inline = text
      .replace(/^ *```[\s\S]*?^ *```/gm, '')
      .match(/`(?:npm run|curl|psql|node) [^`]*`/g);
    expect(inline).toBeNull();
  });

  it('uses words in angle brackets that the index explains', () => {
    const explained = [...index.matchAll(/`<([^>]+)>`/g)].map(([, word]) => word);
    const used = fencesOf(text)
      .filter(isCommand)
      .flatMap((fence) => placeholdersOf(fence.text));
    expect(used.filter((word) => !explained.includes(word))).toEqual([]);
  });

  it('links to what is there', () => {
    const links = [...text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)].map(([, link = '']) => link);
    const missing = links.filter(
      (link) => !/^https?:/.test(link) && !existsSync(new URL(link, PAGES)),
    );
    expect(missing).toEqual([]);
  });

  if (name !== 'README.md') {
    it('stands in the index, and says the five things in their order', () => {
      expect(index).toContain(`(${name})`);
      expect([...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading)).toEqual(HEADINGS);
    });
  }
});
