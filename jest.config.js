import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';

/** Suites of the whole API. What they prove has to hold on each adapter of the database. */
const API_FOLDERS = ['tests/webhook', 'tests/api'];

/** Without redis-server only the in-process mirror can be tried; the reporter names what is left out. */
const REDIS = (process.env.PATH ?? '')
  .split(delimiter)
  .some((folder) => existsSync(join(folder, 'redis-server')))
  ? ['memory', 'tcp', 'upstash']
  : ['memory'];

/** Every database adapter with every Redis adapter. */
const ADAPTERS = ['pg', 'supabase'].flatMap((database) => REDIS.map((redis) => [database, redis]));

/** @type {import('jest').ProjectConfig} */
const base = {
  testEnvironment: 'node',
  testMatch: ['**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.tsx?$': [
      '@swc/jest',
      {
        jsc: {
          target: 'es2023',
          parser: { syntax: 'typescript', tsx: true },
          transform: { react: { runtime: 'automatic' } },
        },
        module: { type: 'es6' },
      },
    ],
  },
};

/** @type {import('jest').Config} */
export default {
  // A bound against hanging. Nothing is judged by its speed: the machine may have other work.
  testTimeout: 300_000,
  // Two at least: with one, Jest runs every suite inside its own process, where modules loaded as
  // ESM are never given back, and a whole run ends without memory. A worker is replaced instead.
  maxWorkers: Math.max(2, Math.floor(availableParallelism() / 2)),
  workerIdleMemoryLimit: '1GB',
  reporters: ['default', '<rootDir>/tests/support/reporter.mjs'],
  globalSetup: '<rootDir>/tests/support/globalSetup.js',
  globalTeardown: '<rootDir>/tests/support/globalTeardown.js',
  // Jest prints the name before each file, and `--selectProjects` takes it.
  projects: [
    {
      ...base,
      roots: ['<rootDir>/tests'],
      testPathIgnorePatterns: [
        '/node_modules/',
        ...API_FOLDERS.map((path) => `<rootDir>/${path}/`),
      ],
    },
    ...ADAPTERS.map(([database, redis]) => ({
      ...base,
      displayName: `${database} + ${redis}`,
      roots: API_FOLDERS.map((path) => `<rootDir>/${path}`),
      setupFiles: [
        `<rootDir>/tests/support/adapters/${database}.js`,
        `<rootDir>/tests/support/adapters/${redis}.js`,
      ],
    })),
    // The same suites where the users table is an app's own: see tests/support/existingApp.ts.
    {
      ...base,
      displayName: 'existing app',
      roots: ['tests/sql', ...API_FOLDERS].map((path) => `<rootDir>/${path}`),
      testPathIgnorePatterns: ['/existing\\w*\\.test\\.ts$'],
      globals: { PURSER_TEST_USERS: 'uuid' },
    },
  ],
};
