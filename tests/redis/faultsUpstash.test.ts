import { declareRedisFaults } from '../support/redisFaults.ts';
import { openUpstashWorld } from '../support/redisWorld.ts';
import { describeWith } from '../support/requirements.ts';

describeWith('redis-server', 'while Redis fails, over Upstash REST', (program) => {
  declareRedisFaults('upstash', () => openUpstashWorld(program));
});
