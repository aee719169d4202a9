import { it } from '@jest/globals';
import { runOneUser } from './support/oneUser.ts';
import { bothPorts } from './support/ports.ts';

const both = bothPorts();

it('64 clients on one user through both adapters: every answer has its own place in the order', async () => {
  await runOneUser(both, { clients: 64, rounds: 4 });
}, 600_000);
