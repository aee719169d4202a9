import type { Command } from 'commander';
import type { Terminal } from './terminal.ts';

/** Adds a command to the program. What it runs answers the exit code. */
export type AddCommand = (program: Command, run: Run) => void;

export type Run = <Args extends unknown[]>(
  work: (terminal: Terminal, ...args: Args) => Promise<number>,
) => (...args: Args) => Promise<void>;
