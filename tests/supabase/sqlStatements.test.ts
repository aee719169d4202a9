import { describe, expect, it } from '@jest/globals';
import { splitSql } from '../../src/supabase/sqlStatements.ts';

describe('splitSql', () => {
  it.each<[string, string, string[]]>([
    ['plain statements', 'select 1; select 2;', ['select 1', 'select 2']],
    ['a last statement without semicolon', 'select 1;\nselect 2', ['select 1', 'select 2']],
    ['nothing', ' -- only a comment;\n /* and; another */ ', []],
    ['empty statements', ';;select 1;;', ['select 1']],
    ['a quoted semicolon', `select ';''x;'; select 1`, [`select ';''x;'`, 'select 1']],
    ['an escape string', `select E'it\\'s;'; select 1`, [`select E'it\\'s;'`, 'select 1']],
    [
      'a plain string that ends in a backslash',
      `select '\\'; select 1`,
      [`select '\\'`, 'select 1'],
    ],
    ['a quoted identifier', `select ";""" ; select 1`, [`select ";"""`, 'select 1']],
    ['a dollar quote', 'do $$ begin; end; $$; select 1', ['do $$ begin; end; $$', 'select 1']],
    [
      'tagged dollar quotes around others',
      'do $a$ x; $$ ; $$ $b$;$b$ $a$; select 1',
      ['do $a$ x; $$ ; $$ $b$;$b$ $a$', 'select 1'],
    ],
    ['parameters that are no dollar quote', 'select $1; select $2', ['select $1', 'select $2']],
    ['a dollar inside a name', 'select a$b; select c$d', ['select a$b', 'select c$d']],
    [
      'nested comments',
      'select /* ; /* ; */ ; */ 1; select 2',
      ['select /* ; /* ; */ ; */ 1', 'select 2'],
    ],
    ['a comment behind a statement', 'select 1 -- ;\n; select 2', ['select 1 -- ;', 'select 2']],
    ['an unquoted operator in front', '(select 1); (select 2)', ['(select 1)', '(select 2)']],
    [
      'a rule with several statements',
      'create rule r as on insert to t do (select 1; select 2); select 3',
      ['create rule r as on insert to t do (select 1; select 2)', 'select 3'],
    ],
    [
      'a standard function body',
      'create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3',
      [
        'create function f() returns int begin atomic select case when true then 1 end; select 2; end',
        'select 3',
      ],
    ],
    ['a transaction of its own', 'begin; select 1; commit;', ['begin', 'select 1', 'commit']],
  ])('splits %s', (_, sql, expected) => {
    expect(splitSql(sql).map((statement) => statement.text)).toEqual(expected);
  });

  it('knows the line of the first word of each', () => {
    const sql = '-- head\n\nselect 1;\n\n/* a\nb */ select\n 2;  select 3;\n';
    expect(splitSql(sql).map((statement) => statement.line)).toEqual([3, 6, 7]);
  });
});
