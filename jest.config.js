import { existsSync } from 'node:fs';

/** Suites of the whole API. What they prove has to hold on each adapter of the database. */
const API_FOLDERS = ['tests/webhook', 'tests/api'].filter((folder) =>
  existsSync(new URL(folder, import.meta.url)),
);

/** @type {import('jest').ProjectConfig} */
const base = {
  testEnvironment: 'node',
  testMatch: ['**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.tsx?$': [
      '@swc/jest',
      {
        jsc: { target: 'es2023', parser: { syntax: 'typescript', tsx: true } },
        module: { type: 'es6' },
      },
    ],
  },
};

/** @type {import('jest').Config} */
export default {
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
    {
      ...base,
      displayName: 'pg',
      roots: API_FOLDERS.map((path) => `<rootDir>/${path}`),
    },
    {
      ...base,
      displayName: 'supabase',
      roots: API_FOLDERS.map((path) => `<rootDir>/${path}`),
      setupFiles: ['<rootDir>/tests/support/onSupabase.js'],
    },
    // The same suites where the users table is an app's own: see tests/support/existingApp.ts.
    {
      ...base,
      displayName: 'existing app',
      roots: ['<rootDir>/tests/sql', '<rootDir>/tests/webhook'],
      testPathIgnorePatterns: ['/existing\\w*\\.test\\.ts$'],
      globals: { PURSER_TEST_USERS: 'uuid' },
    },
  ],
};
