/** Stops the run's Postgres, whatever the tests did; see globalSetup.js. */
export default async function globalTeardown() {
  await globalThis.purserTestCluster?.stop();
}
