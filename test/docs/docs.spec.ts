import { describe, expect, it } from '@jest/globals';
import { fileURLToPath } from 'node:url';

import { DocumentCompiler } from './compile.js';
import { brokenLinks, codeBlocks, readDocuments } from './documents.js';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const documents = readDocuments(root);
const blocks = documents.flatMap(codeBlocks).filter(({ language }) => language === 'ts');

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
});
