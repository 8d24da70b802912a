import { expect } from '@jest/globals';

import { npmPackages, partOfTheApp } from '../common-tests.js';
import type { Page } from '../page.js';
import { commandsOf } from '../shell.js';

export const readme: Page = {
  path: 'README.md',
  blocks: {
    'See it': npmPackages,
    Install: npmPackages,
    'A first workflow': partOfTheApp,

    'A first workflow (2)': async (block, app) => {
      const shop = await app.process();
      const [start, placing] = commandsOf(block.text);

      // Placed twice at once, it is one run with one answer.
      const answers = await Promise.all([shop.curl(placing!.words), shop.curl(placing!.words)]);

      expect(start!.words).toEqual(['npm', 'start']);
      expect(answers).toEqual([placing!.comment, placing!.comment]);
    },
  },
};
