/**
 * The examples of docs/sql-api.md, run as an app would run them: as service_role, statement by
 * statement, in a database of their own. What they answer stands beside them in *.sql.out.
 * `UPDATE_EXAMPLES=1` writes these files anew; read the difference before you commit it.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { splitSql } from '../../src/supabase/sqlStatements.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const FOLDER = new URL('../../examples/sql/', import.meta.url);
const names = readdirSync(FOLDER).filter((name) => name.endsWith('.sql'));

/** Times of the example's own story stay; those of the machine's clock, and the ledger's id, do not. */
const normalized = (text: string): string =>
  text
    .replace(/\b(?!2031)20\d\d-\d\d-\d\dT[\d:.]+Z/g, '<time>')
    .replace(/[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}/g, '<ledger>');

async function transcript(database: TestDatabase, sql: string): Promise<string> {
  let text = '';
  for (const statement of splitSql(sql)) {
    const rows = await database.asRole(
      'service_role',
      {},
      async (client) => (await client.query(statement.text)).rows as Record<string, unknown>[],
    );
    const shown = rows.map((row) =>
      Object.entries(row)
        .map(([name, value]) => `${name} = ${JSON.stringify(value, null, 1)}\n`)
        .join(''),
    );
    text += `${statement.text};\n${shown.join('') || '(no rows)\n'}\n`;
  }
  return normalized(text);
}

describe('the examples of the SQL API', () => {
  it.each(names)(
    '%s answers what stands beside it',
    async (name) => {
      const out = new URL(`${name}.out`, FOLDER);
      const database = await createTestDatabase();
      try {
        const answered = await transcript(database, readFileSync(new URL(name, FOLDER), 'utf8'));
        if (process.env.UPDATE_EXAMPLES === '1') writeFileSync(out, answered);
        expect(answered).toBe(readFileSync(out, 'utf8'));
        expect(await database.query('select * from validate_credits_consistency()')).toEqual([]);
      } finally {
        await database.drop();
      }
    },
    30_000,
  );
});
