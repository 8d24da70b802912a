import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

const LIB = join(dirname(fileURLToPath(import.meta.url)), '../lib');

/** Which folders of lib/ a folder may import from, besides itself. */
const MAY_IMPORT: Record<string, string[]> = {
  engine: [],
  flow: ['engine'],
  store: ['engine'],
  embedded: ['engine'],
  telemetry: ['engine', 'nest'],
  testing: ['engine', 'store', 'embedded', 'nest'],
  nest: ['engine', 'flow', 'store', 'embedded'],
  dashboard: ['engine', 'store'],
  cli: ['engine', 'store', 'embedded'],
  schematics: [],
};

/** Packages that a folder must do without. */
const MUST_NOT_USE: Record<string, RegExp> = {
  engine: /^(@nestjs\/|typeorm$|typeorm\/|pg$|pg\/)/,
};

/** Statements on tables. `create database` is not one: that is how the embedded server is set up. */
const SQL = [
  /^\s*select\s[^]*\bfrom\s/,
  /^\s*select\s+[\w.]+\(/,
  /^\s*insert\s+into\s/,
  /^\s*update\s[^]*\bset\s/,
  /^\s*delete\s+from\s/,
  /^\s*with\s+(recursive\s+)?\w+\s*(\([^)]*\)\s*)?as\s+((not\s+)?materialized\s+)?\(/,
  /^\s*(create|alter|drop)\s+(or\s+replace\s+|unique\s+|unlogged\s+|materialized\s+)*(table|index|schema|type|view|function|trigger|sequence)\s/,
  /^\s*truncate\s+(table\s+)?\w/,
  /^\s*(un)?listen\s+\w+\s*$/,
];

const sources = readSources(LIB);

describe('The architecture of lib/', () => {
  it('lets a folder import only from the folders below it', () => {
    const violations = importsBetweenFolders()
      .filter(({ from, to }) => to !== from && !MAY_IMPORT[from]?.includes(to))
      .map(({ file, from, to }) => `${file}: ${from} may not import from ${to}`);

    expect(violations).toEqual([]);
  });

  it('has a place in the order for every folder', () => {
    const folders = [...new Set([...sources.keys()].filter((file) => file.includes('/')).map(folderOf))];

    expect(folders.filter((folder) => !(folder in MAY_IMPORT))).toEqual([]);
  });

  it('keeps the engine free of Nest, TypeORM and the driver', () => {
    const violations = [...sources].flatMap(([file, source]) =>
      specifiersOf(source)
        .filter((specifier) => MUST_NOT_USE[folderOf(file)]?.test(specifier))
        .map((specifier) => `${file}: ${specifier}`),
    );

    expect(violations).toEqual([]);
  });

  it('needs OpenTelemetry in telemetry/ only', () => {
    const users = [...sources]
      .filter(([, source]) => specifiersOf(source).some((specifier) => specifier.startsWith('@opentelemetry/')))
      .map(([file]) => folderOf(file));

    expect([...new Set(users)]).toEqual(['telemetry']);
  });

  it('has SQL in store/ only', () => {
    const violations = [...sources]
      .filter(([file]) => folderOf(file) !== 'store')
      .flatMap(([file, source]) => sqlOf(source).map((text) => `${file}: ${text}`));

    expect(violations).toEqual([]);
  });

  it('has no import cycle when it runs', () => {
    expect(cyclesOf(runtimeGraph())).toEqual([]);
  });

  it('writes out every public name', () => {
    const entries = ['index.ts', 'testing/index.ts', 'dashboard/index.ts', 'telemetry/index.ts'];
    const offending = entries.filter((entry) => sources.get(entry)?.statements.some(isExportStar));

    expect(offending).toEqual([]);
  });

  it('has no folder that is named after nothing in particular', () => {
    const folders = [...sources.keys()].flatMap((file) => file.split('/').slice(0, -1));

    expect(folders.filter((folder) => /^(utils?|common|helpers?|interfaces|types|shared|misc)$/.test(folder))).toEqual(
      [],
    );
  });
});

describe('The detection of SQL', () => {
  it.each([
    'select id from runs where id = $1',
    'SELECT pg_notify($1, $2)',
    'insert into runs (id) values ($1)',
    '\n  update runs\n  set status = $1\n',
    'delete from runs',
    'with claimed as (select 1) select * from claimed',
    'with recursive tree (id) as (select 1) select * from tree',
    'create unique index runs_key on runs (key)',
    'alter table runs add column tenant text',
  ])('sees %j', (text) => {
    expect(isSql(text)).toBe(true);
  });

  it.each(['update', 'select one of the runs', 'Create a workflow', 'with a typo', 'delete the run first', 'Set it'])(
    'lets %j pass',
    (text) => {
      expect(isSql(text)).toBe(false);
    },
  );
});

describe('The detection of import cycles', () => {
  it('finds the members of a cycle, and nothing else', () => {
    const graph = new Map([
      ['a', ['b']],
      ['b', ['c']],
      ['c', ['b', 'd']],
      ['d', []],
    ]);

    expect(cyclesOf(graph)).toEqual([['b', 'c']]);
  });
});

function readSources(root: string): Map<string, ts.SourceFile> {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith('.ts') && !/^schematics\/[^/]+\/files\//.test(file))
    .toSorted();
  return new Map(
    files.map((file) => [
      file,
      ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.ES2022, true),
    ]),
  );
}

/** The folder directly below lib/, or '' for lib/index.ts. */
function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '';
}

/** Everything a source imports, type imports included. */
function specifiersOf(source: ts.SourceFile): string[] {
  return ts.preProcessFile(source.text, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** The path below lib/ of an import of a source of ours, such as './run.js'; undefined for a package. */
function resolve(file: string, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  const path = relative(LIB, join(LIB, dirname(file), specifier))
    .replaceAll('\\', '/')
    .replace(/\.js$/, '.ts');
  return sources.has(path) || existsSync(join(LIB, path)) ? path : undefined;
}

function importsBetweenFolders(): { file: string; from: string; to: string }[] {
  return [...sources]
    .filter(([file]) => folderOf(file) !== '')
    .flatMap(([file, source]) =>
      specifiersOf(source)
        .flatMap((specifier) => resolve(file, specifier) ?? [])
        .map((target) => ({ file, from: folderOf(file), to: folderOf(target) })),
    );
}

/** What is imported once the types are gone: the imports of the emitted JavaScript. */
function runtimeGraph(): Map<string, string[]> {
  const compilerOptions: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    isolatedModules: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
  };
  return new Map(
    [...sources].map(([file, source]) => {
      const { outputText } = ts.transpileModule(source.text, { fileName: file, compilerOptions });
      const { importedFiles } = ts.preProcessFile(outputText, true, true);
      return [file, importedFiles.flatMap(({ fileName }) => resolve(file, fileName) ?? [])];
    }),
  );
}

/** The strongly connected components with more than one member, and files that import themselves (Tarjan). */
function cyclesOf(graph: Map<string, string[]>): string[][] {
  const cycles: string[][] = [];
  const order = new Map<string, number>();
  const stack: string[] = [];

  const visit = (node: string): number => {
    const index = order.size;
    order.set(node, index);
    let lowest = index;
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!order.has(next)) lowest = Math.min(lowest, visit(next));
      else if (stack.includes(next)) lowest = Math.min(lowest, order.get(next) ?? lowest);
    }
    if (lowest === index) {
      const component = stack.splice(stack.indexOf(node));
      if (component.length > 1 || graph.get(node)?.includes(node)) cycles.push(component.toSorted());
    }
    return lowest;
  };

  for (const node of graph.keys()) if (!order.has(node)) visit(node);
  return cycles;
}

function sqlOf(source: ts.SourceFile): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (isText(node) && isSql(textOf(node))) found.push(textOf(node).trim().slice(0, 60));
    else ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function isText(node: ts.Node): node is ts.StringLiteral | ts.NoSubstitutionTemplateLiteral | ts.TemplateExpression {
  return ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node) || ts.isTemplateExpression(node);
}

function textOf(node: ts.StringLiteral | ts.NoSubstitutionTemplateLiteral | ts.TemplateExpression): string {
  return ts.isTemplateExpression(node) ? node.getText().slice(1, -1) : node.text;
}

/** Statements are written in lower case, or in upper case throughout; prose that starts with 'Select' is neither. */
function isSql(text: string): boolean {
  const first = /^\s*([a-z]+|[A-Z]+)\s/.exec(text);
  return first !== null && SQL.some((pattern) => pattern.test(text.toLowerCase()));
}

function isExportStar(statement: ts.Statement): boolean {
  return ts.isExportDeclaration(statement) && statement.exportClause === undefined;
}
