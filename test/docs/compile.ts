import { join } from 'node:path';

import ts from 'typescript';

import type { CodeBlock } from './documents.js';
import { FragmentWrapper } from './fragment.js';

/** A folder that does not exist: the files of the documents are in memory. */
const FOLDER = '.documents';

/** Compiles the blocks of documents against the sources of the library. Each document is an app of its own. */
export class DocumentCompiler {
  private readonly options: ts.CompilerOptions;
  private readonly parsed = new Map<string, ts.SourceFile | undefined>();
  private readonly wrapper: FragmentWrapper;

  constructor(private readonly root: string) {
    const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
      config: object;
    };
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
    this.options = { ...options, noUnusedLocals: false, noUnusedParameters: false };
    this.wrapper = new FragmentWrapper(root);
  }

  /** The errors in blocks that are whole files; those of one document see each other. */
  checkFiles(blocks: readonly CodeBlock[]): string[] {
    const files = new Map(blocks.map((block) => [this.pathOf(block, block.file!), block.text]));
    return this.check(files, this.options);
  }

  /** The errors in blocks that are fragments. */
  checkFragments(blocks: readonly CodeBlock[]): string[] {
    const files = new Map(
      blocks.map((block) => [this.pathOf(block, `line-${block.line}.ts`), this.wrapper.wrap(block.text)]),
    );
    return this.check(files, { ...this.options, isolatedModules: false });
  }

  private pathOf({ document }: CodeBlock, file: string): string {
    return join(this.root, FOLDER, document, file);
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
