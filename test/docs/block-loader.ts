import ts from 'typescript';

const COMPILER_OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.CommonJS,
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
};

/** From where a module of the documents gets what it uses. */
export interface Surroundings {
  /** The module that is imported as that. */
  resolve(specifier: string): Promise<object>;
  /** What takes the place of Node's globals of those names. */
  globals: Record<string, unknown>;
}

/** Runs a TypeScript text as a module, in this process; gives its exports. */
export async function loadModule(text: string, { resolve, globals }: Surroundings): Promise<Record<string, unknown>> {
  const { outputText } = ts.transpileModule(text, { compilerOptions: COMPILER_OPTIONS });
  const modules = new Map<string, object>();
  for (const [, specifier] of outputText.matchAll(/require\("([^"]+)"\)/g)) {
    modules.set(specifier!, await resolve(specifier!));
  }
  const exports = {};
  // oxlint-disable-next-line no-implied-eval, no-new-func -- the text is that of our own documents
  const run = new Function('exports', 'require', ...Object.keys(globals), outputText) as (...args: unknown[]) => void;
  run(exports, (specifier: string) => modules.get(specifier), ...Object.values(globals));
  return exports;
}
