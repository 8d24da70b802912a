import * as nest from '@nestjs/schematics';
import type { Path } from '@angular-devkit/core';
import type { Rule, Source, Tree } from '@angular-devkit/schematics';
import { parseArtifactName, toKebabCase, type ArtifactName, type Kind } from './artifact-name.js';
import { devkit, normalize } from './devkit.js';

const { apply, applyTemplates, branchAndMerge, chain, filter, mergeWith, move, noop, SchematicsException, url } =
  devkit;

/** What the Nest CLI passes to every schematic (see its schema.json). */
export interface ScaffoldOptions {
  name: string;
  path?: string;
  sourceRoot?: string;
  language?: string;
  flat?: boolean;
  spec?: boolean;
  specFileSuffix?: string;
  skipImport?: boolean;
  format?: boolean;
}

interface SourceLocation {
  sourceRoot: string | undefined;
  path: Path;
}

/** One artifact to write: its names, where it goes, and how files import each other there. */
interface Artifact extends ArtifactName {
  kind: Kind;
  path: Path;
  isEsm: boolean;
}

/** Not in every @nestjs/schematics 11: `isEsmProject` came with the ESM projects of 12, `formatFiles` during 11. */
const { formatFiles, isEsmProject } = nest as Partial<Pick<typeof nest, 'formatFiles' | 'isEsmProject'>>;

/**
 * Writes the files of `kind` (the folder `files` beside the schematic's factory) and registers the class as a provider
 * in the nearest module.
 */
export function scaffold(kind: Kind, options: ScaffoldOptions): Rule {
  refuseJavaScript(options);
  const { names, location } = locate(kind, options);
  return chain([
    nest.mergeSourceRoot(location),
    (tree) => {
      const artifact = { ...names, kind, path: location.path, isEsm: isEsmProject?.(tree) ?? false };
      refuseToOverwrite(artifact, tree);
      return branchAndMerge(
        chain([
          options.skipImport ? noop() : registerInNearestModule(artifact),
          mergeWith(renderFiles(artifact, options)),
          options.format && formatFiles ? formatFiles() : noop(),
        ]),
      );
    },
  ]);
}

function refuseJavaScript({ language }: ScaffoldOptions): void {
  if (language !== undefined && language !== 'ts') {
    throw new SchematicsException(
      `Workflows are written in TypeScript, but this project's language is "${language}" ("language" in nest-cli.json).`,
    );
  }
}

/** The names, and the folder below the source root; `mergeSourceRoot` puts that root in front of it. */
function locate(kind: Kind, options: ScaffoldOptions): { names: ArtifactName; location: SourceLocation } {
  const { name: lastSegment, path } = new nest.NameParser().parse(options);
  const names = parseArtifactName(lastSegment, kind);
  const parent = toKebabCase(path);
  return {
    names,
    location: {
      sourceRoot: options.sourceRoot,
      path: normalize(options.flat ? parent : `${parent}/${names.name}`),
    },
  };
}

/** Unchanged files would merge without a word, and the module would import the class a second time. */
function refuseToOverwrite({ kind, name, path }: Artifact, tree: Tree): void {
  const file = `${path}/${name}.${kind}.ts`;
  if (tree.exists(file)) {
    throw new SchematicsException(`${file} exists already. Delete it first, or choose another name.`);
  }
}

function registerInNearestModule(artifact: Artifact): Rule {
  return (tree, context) => {
    const module = new nest.ModuleFinder(tree).find({ path: artifact.path });
    if (!module) {
      context.logger.warn(`No module found: add ${artifact.className} to the providers of one yourself.`);
      return;
    }
    const { kind: type, name, className, path, isEsm } = artifact;
    const declaration = { metadata: 'providers', type, name, className, path, module, isEsm };
    tree.overwrite(module, new nest.ModuleDeclarator().declare(tree.readText(module), declaration));
  };
}

function renderFiles(artifact: Artifact, options: ScaffoldOptions): Source {
  const specFileSuffix = toKebabCase(options.specFileSuffix ?? 'spec');
  return apply(url('./files'), [
    options.spec === false ? filter((path) => !isSpec(path)) : noop(),
    applyTemplates({ ...artifact, specFileSuffix, importSuffix: artifact.isEsm ? '.js' : '' }),
    move(artifact.path),
  ]);
}

function isSpec(path: string): boolean {
  return path.includes('__specFileSuffix__');
}
