/** Splits an SQL file into its statements, so that an error can name the one that failed. */

export interface SqlStatement {
  text: string;
  /** Line of its first word in the file, from 1. */
  line: number;
}

/** Tokens in which a semicolon ends nothing; a dollar quote ends at its own tag. */
const TOKEN =
  /--[^\n]*|\/\*|\b[eE]'(?:\\[\s\S]|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*"|\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|[();]/g;

/**
 * The statements in order, without comments around them. Knows quotes, nested comments, dollar
 * quotes and SQL-standard function bodies (`begin atomic ... end`).
 */
export function splitSql(sql: string): SqlStatement[] {
  const statements: SqlStatement[] = [];
  let start = -1;
  let parens = 0;
  let blocks = 0;
  let previousWord = '';
  const token = new RegExp(TOKEN);
  let end = 0;
  const finish = (until: number) => {
    if (start >= 0) {
      statements.push({ text: sql.slice(start, until).trimEnd(), line: lineAt(sql, start) });
    }
    start = -1;
    parens = 0;
    blocks = 0;
    previousWord = '';
  };
  for (let match = token.exec(sql); match !== null; match = token.exec(sql)) {
    const text = match[0];
    const between = sql.slice(end, match.index);
    if (start < 0 && between.trim() !== '') start = end + between.search(/\S/);
    end = token.lastIndex;
    if (text.startsWith('--')) continue;
    if (text === '/*') {
      end = token.lastIndex = endOfComment(sql, match.index);
      continue;
    }
    if (text === ';' && parens === 0 && blocks === 0) {
      finish(match.index);
      continue;
    }
    if (start < 0) start = match.index;
    if (text.startsWith('$')) {
      const close = sql.indexOf(text, token.lastIndex);
      end = token.lastIndex = close < 0 ? sql.length : close + text.length;
    } else if (text === '(') parens += 1;
    else if (text === ')') parens = Math.max(0, parens - 1);
    else if (/^\w/.test(text)) {
      const word = text.toLowerCase();
      if (word === 'atomic' && previousWord === 'begin') blocks = 1;
      else if (blocks > 0 && word === 'case') blocks += 1;
      else if (blocks > 0 && word === 'end') blocks -= 1;
      previousWord = word;
    }
  }
  const rest = sql.slice(end);
  if (start < 0 && rest.trim() !== '') start = end + rest.search(/\S/);
  finish(sql.length);
  return statements;
}

/** Line of a position, from 1. */
export function lineAt(sql: string, position: number): number {
  let line = 1;
  for (let i = sql.indexOf('\n'); i >= 0 && i < position; i = sql.indexOf('\n', i + 1)) line += 1;
  return line;
}

/** Block comments nest in Postgres. */
function endOfComment(sql: string, start: number): number {
  const mark = /\/\*|\*\//g;
  mark.lastIndex = start;
  let depth = 0;
  for (let match = mark.exec(sql); match !== null; match = mark.exec(sql)) {
    depth += match[0] === '/*' ? 1 : -1;
    if (depth === 0) return mark.lastIndex;
  }
  return sql.length;
}
