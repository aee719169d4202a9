import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { LONG_AGO, openReconcileWorld, type ReconcileWorld } from './support/reconcileWorld.ts';

const database = testDatabase();
let world: ReconcileWorld;
beforeAll(async () => {
  world = await openReconcileWorld(database.current, {}, 'supabase');
});
afterAll(() => world.stop());

it('compares, heals and tells over Supabase’s Data API as well', async () => {
  await world.drop();
  await world.buy('far');
  const since = LONG_AGO;
  expect(await world.reconcile({ since, dry_run: true })).toMatchObject({ findings: 1 });
  const run = await world.reconcile({ since });
  expect(run).toMatchObject({ findings: 1, repaired: 1 });
  expect(await world.reconcile({ since })).toMatchObject({ findings: 0 });
  const { body: findings } = await world.admin('GET', 'findings');
  expect(findings.data).toMatchObject([{ code: 'missing_grant', resolved_by: 'reconcile' }]);
  const one = await world.admin('GET', `findings/${findings.data[0].id}`);
  expect(one.status).toBe(200);
  expect((await world.admin('GET', 'stripe/check-user/far')).body).toMatchObject({
    clean: true,
    ledger: { balance: 50 },
  });
  const fixed = await world.admin('POST', 'stripe/fix-user/far', { reason: 'to be sure' });
  expect(fixed.body).toMatchObject({ repaired: 0 });
  expect((await world.admin('GET', `stripe/reconciliations/${run.run_id}`)).status).toBe(200);
  expect((await world.admin('GET', 'stripe/reconciliation?user_id=far')).status).toBe(200);
});
