const project = {
  testEnvironment: 'node',
  roots: ['<rootDir>/tests'],
  globalSetup: '<rootDir>/tests/support/globalSetup.js',
  globalTeardown: '<rootDir>/tests/support/globalTeardown.js',
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
  projects: [
    { ...project, displayName: 'new database', testMatch: ['**/*.test.ts'] },
    // The same suites where the users table is an app's own: see tests/support/existingApp.ts.
    {
      ...project,
      displayName: 'existing app',
      testMatch: ['**/tests/sql/*.test.ts', '**/tests/webhook/*.test.ts'],
      testPathIgnorePatterns: ['/existing\\w*\\.test\\.ts$'],
      globals: { PURSER_TEST_USERS: 'uuid' },
    },
  ],
};
