import * as nest from '@nestjs/schematics';
import type { Rule, Tree } from '@angular-devkit/schematics';
import { devkit, normalize } from '../devkit.js';

/** What `nest add` passes, and what the user is asked (see schema.json). */
export interface AddOptions {
  sourceRoot?: string;
  module?: string;
  database: 'embedded' | 'datasource' | 'url';
}

const IMPORT = `import { OrchestrationModule } from 'nestjs-orchestration';`;

/** What the root module imports, by the database that was chosen. */
const FOR_ROOT: Record<AddOptions['database'], string> = {
  embedded: 'OrchestrationModule.forRoot()',
  datasource: `OrchestrationModule.forRoot({ dataSource: 'default' })`,
  url: `OrchestrationModule.forRoot({ connection: { type: 'postgres', url: process.env.DATABASE_URL } })`,
};

const SOURCE = /(?<!\.(spec|test|e2e-spec))\.ts$/;
/** But for lines that are comments. */
const IN_USE = /^(?!\s*(\/\/|\*)).*\bOrchestrationModule\.forRoot/m;

/** `nest add nestjs-orchestration`: imports the module in the root module of the app. Once: a second time changes nothing. */
export function nestAdd({ sourceRoot = 'src', module, database }: AddOptions): Rule {
  return (tree, { logger }) => {
    const present = findImporting(tree, sourceRoot);
    if (present !== undefined) {
      logger.info(`${present} imports OrchestrationModule already.`);
      return;
    }
    const path = normalize(module ?? `${sourceRoot}/app.module.ts`);
    if (!tree.exists(path)) throw notAdded(`There is no ${path}`, database);
    const text = tree.readText(path);
    const extended = new nest.MetadataManager(text).insert('imports', FOR_ROOT[database]);
    if (extended === undefined || extended === text)
      throw notAdded(`${path} has no @Module({ imports: [...] }) that could be extended`, database);
    tree.overwrite(path, withImport(extended));
  };
}

/** The file that has the module already, maybe one that is not the root module. Tests have modules of their own. */
function findImporting(tree: Tree, sourceRoot: string): string | undefined {
  let found: string | undefined;
  tree.getDir(sourceRoot).visit((path) => {
    if (found === undefined && SOURCE.test(path) && IN_USE.test(tree.readText(path))) found = path;
  });
  return found;
}

/** Below the last import that is there, as Nest's own schematics do. */
function withImport(text: string): string {
  const lines = text.split('\n');
  const last = lines.findLastIndex((line) => /^(import\b.*|\}) from ['"]/.test(line));
  return lines.toSpliced(last + 1, 0, IMPORT).join('\n');
}

function notAdded(problem: string, database: AddOptions['database']): Error {
  return new devkit.SchematicsException(
    `${problem}. Name the root module with --module, or add ${FOR_ROOT[database]} to its imports yourself.`,
  );
}
