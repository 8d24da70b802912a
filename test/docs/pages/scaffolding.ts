import { expect } from '@jest/globals';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { npmPackages } from '../common-tests.js';
import type { Page } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';
import { commandsOf } from '../shell.js';

type Files = Record<string, string>;

const APP: Files = {
  '/package.json': '{ "name": "app", "type": "module" }',
  '/nest-cli.json': '{ "sourceRoot": "src" }',
  '/src/app.module.ts': `import { Module } from '@nestjs/common';\n\n@Module({ imports: [] })\nexport class AppModule {}\n`,
};

/** The files of an app after each of some commands of the Nest CLI, which hands such options to a schematic. */
async function generate(root: string, commands: readonly [schematic: string, options: object][]): Promise<Files[]> {
  const host = fork(join(root, 'test/schematics/fixtures/schematic-host.mjs'), { execArgv: [] });
  const ofTheCli = { sourceRoot: 'src', spec: true, flat: false, specFileSuffix: 'spec', skipImport: false };
  const after: Files[] = [];
  try {
    for (const [schematic, options] of commands) {
      host.send({ schematic, options: { ...ofTheCli, ...options }, files: after.at(-1) ?? APP });
      const [outcome] = (await once(host, 'message')) as [{ files: Files } | { error: string }];
      if ('error' in outcome) throw new Error(outcome.error);
      after.push(outcome.files);
    }
    return after;
  } finally {
    host.kill();
  }
}

/** A block of JSON with the name of its file in a comment. */
const parse = (text: string) => JSON.parse(text.replace(/^\/\/.*\n/, '')) as Record<string, unknown>;

export const scaffolding: Page = {
  path: 'docs/guides/scaffolding.md',
  bed: () => ({ providers: [OrderWorkflow] }),
  blocks: {
    Install: npmPackages,

    'Add it to an app': async (block, { root }) => {
      const { name } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name: string };
      expect(commandsOf(block.text).map(({ words }) => words)).toEqual([['nest', 'add', name]]);

      const nestAdd: [string, object] = ['nest-add', {}];
      const [added, addedTwice] = await generate(root, [nestAdd, nestAdd]);

      expect(added!['/src/app.module.ts']).toContain('imports: [OrchestrationModule.forRoot()]');
      expect(addedTwice).toEqual(added);
    },

    Commands: async (block, { root }) => {
      const commands = commandsOf(block.text).map(({ words }) => words);
      const written = commands.filter((words) => words.at(-1) !== '--dry-run');
      const prefix = ['nest', 'g', '-c', 'nestjs-orchestration'];
      expect(commands.map((words) => words.slice(0, 4))).toEqual(commands.map(() => prefix));

      const after = await generate(
        root,
        written.map(([, , , , schematic, name]) => [schematic!, { name }]),
      );

      const created = Object.keys(after.at(-1)!).filter((path) => !(path in APP) && !path.includes('.spec.'));
      expect(created.toSorted()).toEqual([
        '/src/order/order.workflow.ts',
        '/src/shop/charge/charge.step.ts',
        '/src/shop/order/order.workflow.ts',
        '/src/shop/return/return.flow.ts',
      ]);
    },

    'Commands (2)': async (block, { root }) => {
      const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name: string; schematics: string };

      expect(parse(block.text)).toEqual({ collection: own.name });
      expect(parse(readFileSync(join(root, own.schematics), 'utf8'))).toMatchObject({ extends: '@nestjs/schematics' });
    },

    'What is generated': async (block, { serve, dataSource, orchestrator }) => {
      await block.run();
      await serve({ imports: [dataSource(), block.declared<never>('AppModule')] });

      expect(await orchestrator.execute(OrderWorkflow, order)).toEqual({ total: 10 });
    },

    'CommonJS projects': npmPackages,

    'CommonJS projects (2)': async (block) => {
      const { transform, transformIgnorePatterns } = parse(block.text) as {
        transform: object;
        transformIgnorePatterns: string[];
      };
      const ignored = new RegExp(transformIgnorePatterns[0]!);

      const ofAPackage = (name: string) => `/app/node_modules/${name}/dist/index.js`;
      expect(Object.keys(transform).some((pattern) => new RegExp(pattern).test(ofAPackage('devalue')))).toBe(true);
      expect(['nestjs-orchestration', 'devalue', 'uuid'].filter((name) => ignored.test(ofAPackage(name)))).toEqual([]);
      expect(ignored.test(ofAPackage('typeorm'))).toBe(true);
    },

    'CommonJS projects (3)': async (block, { root }) => {
      const { test } = parse(block.text) as { test: string };
      const [program, ...args] = test.split(' ');

      expect([program, args[0]]).toEqual(['node', '--experimental-vm-modules']);
      expect(readFileSync(join(root, args[1]!), 'utf8')).toContain('node');
    },
  },
};
