import { expect } from '@jest/globals';

import type { BlockTest } from './page.js';
import { commandsOf, npmProblems } from './shell.js';

/** For blocks with commands of npm: packages and scripts that there are. Installing is not done here. */
export const npmPackages: BlockTest = async (block, { root }) => {
  expect(commandsOf(block.text).flatMap((command) => npmProblems(root, command))).toEqual([]);
};

/** For the files of a page's app. */
export const partOfTheApp: BlockTest = async (block, app) => {
  expect((await app.process()).texts).toContain(block.text);
};
