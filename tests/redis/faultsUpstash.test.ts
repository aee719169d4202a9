import { jest } from '@jest/globals';
import { declareRedisFaults } from '../support/redisFaults.ts';
import { openUpstashWorld } from '../support/redisWorld.ts';
import { describeWith } from '../support/requirements.ts';

// A bound against hanging; nothing is judged by its speed.
jest.setTimeout(60_000);

describeWith('redis-server', 'while Redis fails, over Upstash REST', (program) => {
  declareRedisFaults('upstash', () => openUpstashWorld(program));
});
