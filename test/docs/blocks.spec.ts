import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { stopEmbeddedPostgres } from '../../lib/index.js';
import { codeBlocks, readDocuments } from './documents.js';
import { FragmentWrapper } from './fragment.js';
import { PageApp } from './page.js';
import { NOT_RUN, PAGES } from './pages/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const blocks = readDocuments(root).flatMap(codeBlocks);
const wrapper = new FragmentWrapper(root);

// Where an app of the documents would be: an embedded PostgreSQL that a block starts is in this folder.
const folder = mkdtempSync(join(tmpdir(), 'documents-'));
const cwd = process.cwd();

beforeAll(() => {
  chmodSync(folder, 0o755);
  process.chdir(folder);
});

afterAll(async () => {
  process.chdir(cwd);
  await stopEmbeddedPostgres({ dir: join(folder, '.orchestration') });
  rmSync(folder, { recursive: true, force: true });
});

describe('The blocks of the documents', () => {
  const namesOf = (tests: Record<string, Record<string, unknown>>) =>
    Object.entries(tests).flatMap(([path, names]) => Object.keys(names).map((name) => `${path}: ${name}`));

  it('are each run by a test, or have a reason not to be', () => {
    const tests = Object.fromEntries(PAGES.map((page) => [page.path, page.blocks]));
    const known = [...namesOf(tests), ...namesOf(NOT_RUN)].toSorted();

    expect(known).toEqual(blocks.map(({ document, name }) => `${document}: ${name}`).toSorted());
  });
});

describe.each(PAGES.map((page) => [page.path, page] as const))('%s', (path, page) => {
  const app = new PageApp(
    root,
    page,
    blocks.filter(({ document }) => document === path),
    wrapper,
  );

  beforeAll(() => app.start());
  afterAll(() => app.close());

  it.each(Object.entries(page.blocks))('does what it says: %s', async (name, test) => {
    await expect(app.run(name, test)).resolves.toBeUndefined();
  });
});
