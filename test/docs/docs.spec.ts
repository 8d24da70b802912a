import { describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import * as api from '../../lib/index.js';
import { DocumentCompiler } from './compile.js';
import { brokenLinks, codeBlocks, readDocuments } from './documents.js';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const documents = readDocuments(root);
const blocks = documents.flatMap(codeBlocks).filter(({ language }) => language === 'ts');

const textOf = (path: string) => readFileSync(join(root, path), 'utf8');
/** What users read to learn how to use it. */
const manual = documents.filter(({ path }) => !/CHANGELOG|CONTRIBUTING|architecture/.test(path));
const isExplained = (name: string) => manual.some(({ text }) => new RegExp(String.raw`\b${name}\b`).test(text));

/** Of an interface or a class in a source, by lines of two spaces. */
const membersOf = (path: string, declaration: string) => {
  const [, body] = new RegExp(`^export (?:interface|class) ${declaration}\\b.*\\{\\n([^]*?)^\\}`, 'm').exec(
    textOf(path),
  )!;
  const members = [...body!.matchAll(/^ {2}(?:async |get |readonly )*([a-z]\w*)\??(?:<[^\n]*>)?[(:]/gm)];
  return [...new Set(members.map(([, name]) => name!))].filter((name) => name !== 'constructor');
};

describe('The documents', () => {
  const compiler = new DocumentCompiler(root);

  it('have files that compile as they are, in a project as nest new makes it', () => {
    expect(compiler.checkFiles(blocks.filter(({ file }) => file !== undefined))).toEqual([]);
  });

  it('have fragments that compile', () => {
    expect(compiler.checkFragments(blocks.filter(({ file }) => file === undefined))).toEqual([]);
  });

  it('have links that lead somewhere', () => {
    expect(documents.flatMap((document) => brokenLinks(root, document))).toEqual([]);
  });

  it('are all reached from the README', () => {
    const readme = textOf('README.md');
    const pages = documents.map(({ path }) => path).filter((path) => /^docs\/(guides\/)?[^/]+$/.test(path));

    expect(pages.filter((path) => !readme.includes(`(${path})`))).toEqual([]);
  });

  it('explain all that the library exports but types', () => {
    expect(Object.keys(api).filter((name) => !isExplained(name))).toEqual([]);
  });

  it.each([
    ['Orchestrator', 'lib/engine/orchestrator.ts'],
    ['ChildOrchestrator', 'lib/engine/child-orchestrator.ts'],
    ['RunContext', 'lib/engine/run-context.ts'],
    ['StartOptions', 'lib/engine/start-options.ts'],
    ['OrchestrationTestBed', 'lib/testing/test-bed.ts'],
  ])('explain every member of %s', (name, path) => {
    const internal: readonly string[] = textOf(path).match(/(?<=^ {2}private (?:async |readonly )*)\w+/gm) ?? [];
    const members = membersOf(path, name).filter((member) => !internal.includes(member));

    expect(members.length).toBeGreaterThan(5);
    expect(members.filter((member) => !isExplained(member))).toEqual([]);
  });

  it.each(['OrchestrationModuleOptions', 'WorkerOptions'])('have a table with every option of %s', (name) => {
    const options = membersOf('lib/nest/module-options.ts', name);
    const table = textOf('docs/guides/module.md');

    expect(options.length).toBeGreaterThan(5);
    expect(options.filter((option) => !new RegExp(`^\\| \`${option}[.\`]`, 'm').test(table))).toEqual([]);
  });

  it('have a catalogue with the code and the status of every error', () => {
    const catalogue = textOf('docs/guides/errors-and-retries.md');
    const classes = textOf('lib/engine/errors.ts')
      .split(/^export class /m)
      .slice(1);
    const rows = classes.flatMap((text) => {
      const [name] = /^\w+/.exec(text)!;
      const code = /readonly code = '(\w+)'/.exec(text)?.[1];
      const status = /statusCode = (\d+)/.exec(text)?.[1];
      return name in api && code ? [`| \`${name}\` | \`${code}\` | ${status ? `${status} ` : ''}|`] : [];
    });

    expect(rows.length).toBeGreaterThan(30);
    expect(rows.filter((row) => !catalogue.includes(row))).toEqual([]);
  });
});
