#!/usr/bin/env node
/** `purser <command>`: see program.ts. */
import { existsSync } from 'node:fs';
import { runCli } from './program.ts';
import { EXIT, processTerminal } from './terminal.ts';

// As the server does: what is set already wins.
if (existsSync('.env')) process.loadEnvFile('.env');
const canceled = new AbortController();
// The first Ctrl-C lets the command end what it began; the second ends the process. An embedded
// server that this run has started stops as the process exits.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (canceled.signal.aborted) process.exit(EXIT.canceled);
    canceled.abort();
  });
}
process.exitCode = await runCli(process.argv.slice(2), processTerminal(canceled.signal));
