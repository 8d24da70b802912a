import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import ts from 'typescript';

/** From where fragments may use names without an import, beside the library and the prelude. */
const PACKAGES: Record<string, string[]> = {
  '@nestjs/common': ['Body', 'Controller', 'Get', 'Injectable', 'Module', 'Param', 'Post'],
  '@nestjs/core': ['NestFactory'],
  '@nestjs/testing': ['Test'],
  '@nestjs/typeorm': ['TypeOrmModule'],
  typeorm: ['DataSource', 'EntityManager'],
};
export const PRELUDE = 'test/docs/fixtures/prelude.ts';

/** What a fragment leaves behind. */
export interface FragmentResult {
  /** What it declares at its top level. */
  declared: Record<string, unknown>;
  /** The values of its expression statements, in their order. */
  values: unknown[];
}

/**
 * Makes modules of fragments: blocks that are not whole files. Such a module exports one function, `fragment`, whose body
 * is the text, and imports what the text uses and does not import itself.
 */
export class FragmentWrapper {
  private readonly known: ReadonlyMap<string, string>;

  constructor(root: string) {
    const entries: [source: string, module: string][] = [
      ['lib/index.ts', 'nestjs-orchestration'],
      ['lib/testing/index.ts', 'nestjs-orchestration/testing'],
      ['lib/telemetry/index.ts', 'nestjs-orchestration/telemetry'],
      [PRELUDE, join(root, PRELUDE).replace(/\.ts$/, '.js')],
    ];
    this.known = new Map([
      ...Object.entries(PACKAGES).flatMap(([module, names]) => names.map((name): [string, string] => [name, module])),
      ...entries.flatMap(([source, module]) =>
        exportedNames(join(root, source)).map((name): [string, string] => [name, module]),
      ),
    ]);
  }

  /** Its function returns a `FragmentResult`, unless the text itself returns something. */
  wrap(text: string): string {
    const source = ts.createSourceFile('fragment.ts', text, ts.ScriptTarget.ES2022, true);
    const imports = source.statements.filter(ts.isImportDeclaration).map((statement) => statement.getText());
    const rest = source.statements.filter((statement) => !ts.isImportDeclaration(statement));
    const own = new Set([...(imports.join('\n').match(/\w+/g) ?? []), ...rest.flatMap(declaredNames)]);
    const body = rest.map(bodyText).join('');
    const used = [...new Set(body.match(/\w+/g))].filter((name) => this.known.has(name) && !own.has(name));
    return [
      ...used.map((name) => `import { ${name} } from '${this.known.get(name)}';`),
      ...imports,
      'export async function fragment() {',
      'const $values: unknown[] = [];',
      body,
      `return { declared: { ${rest.flatMap(declaredNames).join(', ')} }, values: $values };`,
      '}',
    ].join('\n');
  }
}

/** With what is written before it; an expression's value is kept. */
function bodyText(statement: ts.Statement): string {
  if (ts.isExpressionStatement(statement)) {
    const expression = statement.expression.getText();
    return `\n$values.push(${expression});`;
  }
  return statement.getFullText().replace(/^export (default )?/gm, '');
}

function declaredNames(statement: ts.Statement): string[] {
  if (ts.isVariableStatement(statement)) {
    return statement.declarationList.declarations.flatMap(({ name }) => boundNames(name));
  }
  if (ts.isClassDeclaration(statement) || ts.isFunctionDeclaration(statement)) return [statement.name!.text];
  return [];
}

function boundNames(name: ts.BindingName): string[] {
  if (ts.isIdentifier(name)) return [name.text];
  return name.elements.flatMap((element) => (ts.isOmittedExpression(element) ? [] : boundNames(element.name)));
}

function exportedNames(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022, true);
  return source.statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement) && statement.exportClause && ts.isNamedExports(statement.exportClause)) {
      return statement.exportClause.elements.map((element) => element.name.text);
    }
    return ts.isInterfaceDeclaration(statement) ? [statement.name.text] : declaredNames(statement);
  });
}
