// Jest loads this file as it is, without its TypeScript transform: tsx reads the rest.
import { tsImport } from 'tsx/esm/api';

/** Starts the run's Postgres and tells the workers its address through the environment. */
export default async function globalSetup() {
  const { startTestCluster } = await tsImport('./testCluster.ts', import.meta.url);
  const cluster = await startTestCluster();
  globalThis.purserTestCluster = cluster;
  process.env.PURSER_TEST_CLUSTER_URL = cluster.connectionString;
  process.env.PURSER_TEST_KEPT_FOLDER = cluster.keptFolder;
  // An interrupted run would otherwise skip the teardown: leaving by `exit` stops the server.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => process.exit(130));
  }
}
