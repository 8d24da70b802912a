import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { fileURLToPath } from 'node:url';

import type { RunTree } from '../../lib/index.js';
import { DocumentCompiler } from './compile.js';
import { DocumentedApp } from './documented-app.js';
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

describe("The README's first workflow", () => {
  const app = new DocumentedApp(root, filesOf('README.md'));

  beforeAll(() => app.start());
  afterAll(() => app.remove());

  it('runs as pasted, without a database installed', async () => {
    expect(await app.request('POST', '/orders/4711')).toBe('4711: paid 42');
  });

  it('gives the same run when the order is placed again', async () => {
    const placing = [app.request('POST', '/orders/4712'), app.request('POST', '/orders/4712')];

    expect(await Promise.all(placing)).toEqual(['4712: paid 42', '4712: paid 42']);
  });
});

describe('The app of Getting started', () => {
  const app = new DocumentedApp(root, filesOf('docs/getting-started.md'));
  const order = { id: '4711', address: 'Karl Johans gate 1', amount: 42 };
  const familyOf = async (runId: string) => JSON.parse(await app.request('GET', `/orders/${runId}`)) as RunTree;

  beforeAll(() => app.start());
  afterAll(() => app.remove());

  it('shows the family, keeps it over a restart, and cancels it', async () => {
    const { runId } = JSON.parse(await app.request('POST', '/orders', order)) as { runId: string };
    await app.until(async () => statusesOf(await familyOf(runId)).join() === 'waiting,waiting');

    await app.stop();
    await app.start();
    const afterRestart = await familyOf(runId);
    const answer: unknown = JSON.parse(await app.request('DELETE', `/orders/${runId}`));
    await app.until(async () => (await familyOf(runId)).status === 'cancelled');

    expect(afterRestart).toMatchObject({ workflow: 'order', children: [{ workflow: 'shipping', ref: 'parcel' }] });
    expect(answer).toEqual({ cancelled: 0, requested: 2 });
    expect(statusesOf(await familyOf(runId))).toEqual(['cancelled', 'cancelled']);
    expect(app.output.filter((line) => line.startsWith('charging'))).toEqual([`charging 42, once for ${runId}/charge`]);
  });
});

function filesOf(path: string) {
  return blocks.filter(({ document, file }) => document === path && file !== undefined);
}

/** Of a run and its descendants. */
function statusesOf({ status, children }: RunTree): string[] {
  return [status, ...children.flatMap(statusesOf)];
}
