import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import ts from 'typescript';

import type { CodeBlock } from './documents.js';

/** From where fragments may use names without an import, beside the library and the prelude. */
const PACKAGES: Record<string, string[]> = {
  '@nestjs/common': ['Body', 'Controller', 'Get', 'Injectable', 'Module', 'Param', 'Post'],
  '@nestjs/core': ['NestFactory'],
  '@nestjs/testing': ['Test'],
  '@nestjs/typeorm': ['TypeOrmModule'],
  typeorm: ['DataSource', 'EntityManager'],
};
const PRELUDE = 'test/docs/fixtures/prelude.ts';
/** A folder that does not exist: the files of the documents are in memory. */
const FOLDER = '.documents';

/** Compiles the blocks of documents against the sources of the library. Each document is an app of its own. */
export class DocumentCompiler {
  private readonly options: ts.CompilerOptions;
  private readonly parsed = new Map<string, ts.SourceFile | undefined>();
  private readonly known: Map<string, string>;

  constructor(private readonly root: string) {
    const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
      config: object;
    };
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
    this.options = { ...options, noUnusedLocals: false, noUnusedParameters: false };
    this.known = new Map([
      ...Object.entries(PACKAGES).flatMap(([module, names]) => names.map((name): [string, string] => [name, module])),
      ...exportedNames(join(root, 'lib/index.ts')).map((name): [string, string] => [name, 'nestjs-orchestration']),
      ...exportedNames(join(root, 'lib/testing/index.ts')).map((name): [string, string] => [
        name,
        'nestjs-orchestration/testing',
      ]),
      ...exportedNames(join(root, 'lib/telemetry/index.ts')).map((name): [string, string] => [
        name,
        'nestjs-orchestration/telemetry',
      ]),
      ...exportedNames(join(root, PRELUDE)).map((name): [string, string] => [
        name,
        join(root, PRELUDE).replace(/\.ts$/, '.js'),
      ]),
    ]);
  }

  /** The errors in blocks that are whole files; those of one document see each other. */
  checkFiles(blocks: readonly CodeBlock[]): string[] {
    const files = new Map(blocks.map((block) => [this.pathOf(block, block.file!), block.text]));
    return this.check(files, this.options);
  }

  /** The errors in blocks that are fragments. */
  checkFragments(blocks: readonly CodeBlock[]): string[] {
    const files = new Map(blocks.map((block) => [this.pathOf(block, `line-${block.line}.ts`), this.wrap(block.text)]));
    return this.check(files, { ...this.options, isolatedModules: false });
  }

  private pathOf({ document }: CodeBlock, file: string): string {
    return join(this.root, FOLDER, document, file);
  }

  /** A fragment as the body of a function, in a module that imports what the fragment uses and does not import itself. */
  private wrap(text: string): string {
    const source = ts.createSourceFile('fragment.ts', text, ts.ScriptTarget.ES2022, true);
    const imports = source.statements
      .filter((statement) => ts.isImportDeclaration(statement))
      .map((statement) => statement.getText());
    const own = new Set(imports.join('\n').match(/\w+/g));
    const body = imports.reduce((rest, one) => rest.replace(one, ''), text).replace(/^export (default )?/gm, '');
    const used = [...new Set(body.match(/\w+/g))].filter((name) => this.known.has(name) && !own.has(name));
    const header = used.map((name) => `import { ${name} } from '${this.known.get(name)}';`);
    return [...header, ...imports, 'export async function fragment() {', body, '}'].join('\n');
  }

  private check(files: ReadonlyMap<string, string>, options: ts.CompilerOptions): string[] {
    const program = ts.createProgram([...files.keys()], options, this.hostWith(files, options));
    return [...files.keys()].flatMap((path) => {
      const source = program.getSourceFile(path)!;
      return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map((diagnostic) =>
        this.describe(path, diagnostic),
      );
    });
  }

  private hostWith(files: ReadonlyMap<string, string>, options: ts.CompilerOptions): ts.CompilerHost {
    const host = ts.createCompilerHost(options);
    return {
      ...host,
      fileExists: (path) => files.has(path) || host.fileExists(path),
      readFile: (path) => files.get(path) ?? host.readFile(path),
      directoryExists: (path) => path.includes(FOLDER) || ts.sys.directoryExists(path),
      getSourceFile: (path, target) => {
        const text = files.get(path);
        if (text !== undefined) return ts.createSourceFile(path, text, target, true);
        if (!this.parsed.has(path)) this.parsed.set(path, host.getSourceFile(path, target));
        return this.parsed.get(path);
      },
    };
  }

  private describe(path: string, { messageText, start, file }: ts.Diagnostic): string {
    const text = ts.flattenDiagnosticMessageText(messageText, ' ');
    const line =
      file && start !== undefined ? file.text.split('\n')[file.getLineAndCharacterOfPosition(start).line] : '';
    return `${path.slice(join(this.root, FOLDER).length + 1)}: ${text} | ${line?.trim()}`;
  }
}

function exportedNames(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022, true);
  return source.statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement) && statement.exportClause && ts.isNamedExports(statement.exportClause)) {
      return statement.exportClause.elements.map((element) => element.name.text);
    }
    if (ts.isVariableStatement(statement))
      return statement.declarationList.declarations.map((declaration) => declaration.name.getText());
    if (ts.isInterfaceDeclaration(statement) || ts.isClassDeclaration(statement)) return [statement.name!.text];
    return [];
  });
}
