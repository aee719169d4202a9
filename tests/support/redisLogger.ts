import type { LogFields, Logger } from '../../src/core/ports.ts';

/** Keeps what is logged, at all levels but debug, as `level: message`. */
export function collectLines(): { logger: Logger; lines: string[]; fields: LogFields[] } {
  const lines: string[] = [];
  const fields: LogFields[] = [];
  const collect =
    (level: string) =>
    (message: string, more: LogFields = {}) => {
      lines.push(`${level}: ${message}`);
      fields.push(more);
    };
  return {
    logger: {
      error: collect('error'),
      warn: collect('warn'),
      info: collect('info'),
      debug: () => {},
    },
    lines,
    fields,
  };
}
