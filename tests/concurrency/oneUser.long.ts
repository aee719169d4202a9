import { it } from '@jest/globals';
import { runOneUser } from './support/oneUser.ts';
import { bothPorts } from './support/ports.ts';

const both = bothPorts();
/** Of 6 calls each: 204 calls of each client. */
const ROUNDS = 34;

it(`64 clients, ${ROUNDS} rounds each, on one user through both adapters`, async () => {
  await runOneUser(both, { clients: 64, rounds: ROUNDS });
}, 1_800_000);
