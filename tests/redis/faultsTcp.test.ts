import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { declareRedisFaults } from '../support/redisFaults.ts';
import { startRedisServer } from '../support/redisServer.ts';
import { actionsIn, openTcpWorld, type World } from '../support/redisWorld.ts';
import { describeWith } from '../support/requirements.ts';
import { waitFor } from '../support/stack.ts';

describeWith('redis-server', 'while Redis fails, over TCP', (program) => {
  describe('while it runs', () => declareRedisFaults('tcp', () => openTcpWorld(program)));

  describe('as a process', () => {
    let world: World;
    const act = actionsIn(() => world);
    beforeEach(async () => {
      world = await openTcpWorld(program);
      for (const user of ['a', 'b']) {
        await act.fund(user, 1000);
        await act.mirrored(user);
      }
      await act.check('a');
    });
    afterEach(() => world.end());

    it('killed and restarted empty', async () => {
      await world.server.kill();
      await act.spendExactly('a', 5);
      await world.server.start();
      await world.server.wire.call('SELECT', 2);
      await act.mirrored('a');
      await act.mirrored('b');
      await act.spendExactly('a', 3);
    });

    it('restored from an older snapshot', async () => {
      await world.server.wire.call('SAVE');
      await act.spendExactly('a', 5);
      await act.mirrored('a');
      await world.server.kill();
      await world.server.start();
      await world.server.wire.call('SELECT', 2);
      expect(await world.server.wire.call('HGET', 'credits:{a}', 'available')).toBe('1000');
      await act.mirrored('a');
      expect(await act.checkInRedis('a')).toMatchObject({ available: 995 });
    });

    it('failed over to a replica that has lost the last writes', async () => {
      const replica = await startRedisServer({ program });
      try {
        await replica.wire.call('REPLICAOF', '127.0.0.1', world.server.port);
        await waitFor(
          async () =>
            String(await replica.wire.call('INFO', 'replication')).includes('link_status:up'),
          'the replica',
        );
        await replica.wire.call('SELECT', 2);
        await act.mirrored('b', replica.wire);
        await replica.wire.call('REPLICAOF', 'NO', 'ONE');
        await act.spendExactly('a', 5);
        await act.mirrored('a');
        const { port } = world.server;
        await world.server.kill();
        await replica.wire.call('CONFIG', 'SET', 'port', port);
        expect(await replica.wire.call('HGET', 'credits:{a}', 'available')).toBe('1000');
        await act.mirrored('a', replica.wire);
        expect(await act.checkInRedis('a')).toMatchObject({ available: 995 });
        await act.spendExactly('b', 3);
      } finally {
        await replica.stop();
      }
    });

    it('holding a copy ahead of the ledger, put back when its user changes', async () => {
      await world.server.wire.call('HSET', 'credits:{a}', 'version', '500', 'available', '7');
      await act.fund('a', 1);
      await act.mirrored('a');
      expect(await act.check('a')).toMatchObject({ available: 1001 });
    });
  });
});
