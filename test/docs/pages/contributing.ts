import { expect } from '@jest/globals';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { Page } from '../page.js';

/** The folders of a picture whose indentation says what is in what. */
function foldersIn(picture: string): string[] {
  const above: string[] = [];
  return picture.split('\n').flatMap((line) => {
    const [, indent, folder] = /^( *)(\S+\/)(?= |$)/.exec(line) ?? [];
    if (folder === undefined) return [];
    above.splice(indent!.length / 2, Infinity, folder);
    return [above.join('')];
  });
}

export const contributing: Page = {
  path: 'CONTRIBUTING.md',
  blocks: {
    Layout: async (block, { root }) => {
      const folders = foldersIn(block.text);

      expect(folders).toContain('lib/engine/');
      expect(folders.filter((folder) => !existsSync(join(root, folder)))).toEqual([]);
    },
  },
};
