/**
 * Holds the tree to the table in import-rules.ts and finds import cycles. TypeScript 7 has no
 * compiler API, so the imports are read with swc, which the tests use anyway.
 */
import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { posix } from 'node:path';
import { parseSync } from '@swc/core';
import { PACKAGE_RULES, ZONES, type Zone } from './import-rules.ts';
import { isMain, listFiles } from './source-files.ts';

export interface Violation {
  file: string;
  /** 1-based. */
  line: number;
  message: string;
  fix: string;
}

interface Import {
  /** As written; null when it is not a plain string. */
  specifier: string | null;
  typeOnly: boolean;
  line: number;
}

/** The fields of swc's syntax tree that imports are made of. */
interface Node {
  type?: string;
  span?: { start: number };
  source?: Node | null;
  value?: unknown;
  typeOnly?: boolean;
  callee?: Node;
  arguments?: { expression: Node }[];
  argument?: Node;
  moduleRef?: Node & { expression?: Node };
}

/** Every import, export-from, dynamic import and `import('x')` type of one file. */
export function readImports(path: string, text: string): Import[] {
  const syntax = { syntax: 'typescript', tsx: path.endsWith('.tsx') } as const;
  const bytes = Buffer.from(text);
  const imports: Import[] = [];
  const add = (node: Node, literal: Node | null | undefined, typeOnly: boolean): void => {
    // swc counts bytes from 1.
    const start = (literal?.span ?? node.span)?.start ?? 1;
    const line = bytes
      .subarray(0, start - 1)
      .toString()
      .split('\n').length;
    const specifier = literal?.type === 'StringLiteral' ? String(literal.value) : null;
    imports.push({ specifier, typeOnly, line });
  };
  const visit = (value: unknown): void => {
    if (value === null || typeof value !== 'object') return;
    const node = value as Node;
    if (node.type === 'TsImportType') add(node, node.argument, true);
    else if (node.type === 'TsExternalModuleReference') {
      add(node, (node as { expression?: Node }).expression, false);
    } else if (node.type === 'CallExpression' && node.callee?.type === 'Import') {
      add(node, node.arguments?.[0]?.expression, false);
    } else if (node.source && /^(Import|ExportAll|ExportNamed)Declaration$/.test(node.type ?? '')) {
      // `import { type A }` is not `import type`: with verbatimModuleSyntax the file is still loaded.
      add(node, node.source, node.typeOnly === true);
    }
    for (const child of Object.values(value)) visit(child);
  };
  visit(parseSync(text, { ...syntax, target: 'es2023' }));
  return imports;
}

function isWithin(path: string, parent: string): boolean {
  return path === parent || path.startsWith(`${parent}/`);
}

function zoneOf(path: string): Zone | undefined {
  return ZONES.find((zone) => path === `${zone.path}.ts` || isWithin(path, zone.path));
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function checkLocal(file: string, zone: Zone, target: string, typeOnly: boolean): string | null {
  const to = zoneOf(target);
  if (to?.name === zone.name) return null;
  if (to !== undefined && zone.mayImport.includes(to.name)) return null;
  if (typeOnly && zone.mayImportTypesOf?.some((path) => isWithin(target, path))) return null;
  const allowed = zone.mayImport.map((name) => ZONES.find((each) => each.name === name)?.path);
  const list = allowed.length > 0 ? `only itself and ${allowed.join(', ')}` : 'only itself';
  return `${file} imports ${target}, but ${zone.path} may import ${list}`;
}

function checkPackage(file: string, found: Import & { specifier: string }): Violation | null {
  const name = packageOf(found.specifier);
  const rule = PACKAGE_RULES.find(({ packages }) => packages.includes(name));
  if (rule === undefined || isWithin(file, rule.only)) return null;
  if (found.typeOnly && rule.typesAnywhere) return null;
  const message = `${file} imports '${found.specifier}', which only ${rule.only} may import`;
  return { file, line: found.line, message, fix: rule.fix };
}

function checkImport(file: string, zone: Zone, found: Import): Violation | null {
  const { specifier, line } = found;
  if (specifier === null) {
    const message = `${file} imports something that is not written as a plain string`;
    return { file, line, message, fix: 'Write the name as a literal, so that it can be checked.' };
  }
  if (!specifier.startsWith('.')) {
    if (specifier.startsWith('node:') || builtinModules.includes(specifier)) return null;
    return checkPackage(file, { ...found, specifier });
  }
  const target = posix.join(posix.dirname(file), specifier);
  const message = checkLocal(file, zone, target, found.typeOnly);
  return message === null ? null : { file, line, message, fix: zone.fix };
}

/** Each cycle once, as the names along it. */
export function findCycles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const cycles: string[][] = [];
  const state = new Map<string, 'open' | 'done'>();
  const path: string[] = [];
  const visit = (file: string): void => {
    if (state.get(file) === 'done') return;
    if (state.get(file) === 'open') {
      cycles.push([...path.slice(path.indexOf(file)), file]);
      return;
    }
    state.set(file, 'open');
    path.push(file);
    for (const next of graph.get(file) ?? []) visit(next);
    path.pop();
    state.set(file, 'done');
  };
  for (const file of graph.keys()) visit(file);
  return cycles;
}

/** `files` maps paths relative to the repository (with `/`) to their text. */
export function checkImports(files: ReadonlyMap<string, string>): Violation[] {
  const violations: Violation[] = [];
  const graph = new Map<string, string[]>();
  for (const [file, text] of files) {
    const zone = zoneOf(file);
    if (zone === undefined) {
      const message = `${file} belongs to no zone of the import table`;
      const fix = 'Move it to a folder that has one, or add a row to scripts/import-rules.ts.';
      violations.push({ file, line: 1, message, fix });
      continue;
    }
    const imports = readImports(file, text);
    for (const found of imports) {
      const violation = checkImport(file, zone, found);
      if (violation !== null) violations.push(violation);
    }
    // Types are erased and may refer to one another; code in a cycle breaks on the loading order.
    const local = imports.flatMap(({ specifier, typeOnly }) =>
      specifier?.startsWith('.') && !typeOnly ? specifier : [],
    );
    graph.set(
      file,
      local.map((specifier) => posix.join(posix.dirname(file), specifier)),
    );
  }
  for (const cycle of findCycles(graph)) {
    violations.push({
      file: cycle[0] ?? '',
      line: 1,
      message: `import cycle: ${cycle.join(' -> ')}`,
      fix: 'Move what both sides need to a third file that imports neither.',
    });
  }
  return violations;
}

export function formatViolation({ file, line, message, fix }: Violation): string {
  return `${file}:${line}: ${message}\n    ${fix}`;
}

if (isMain(import.meta.url)) {
  const paths = [...listFiles('src'), ...listFiles('web')].filter((path) => /\.tsx?$/.test(path));
  const violations = checkImports(new Map(paths.map((path) => [path, readFileSync(path, 'utf8')])));
  for (const violation of violations) console.error(formatViolation(violation));
  if (violations.length > 0) process.exitCode = 1;
  else console.log(`${paths.length} files keep to the import table, no cycles`);
}
