import { expect, jest } from '@jest/globals';

import type { OrchestrationTestBed } from '../../../lib/testing/index.js';
import { testServerUrl } from '../../support/database.js';
import type { Block, Page } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';

type Act = () => unknown;

/** What a spec file uses of a test runner; its tests run one after the other when `run` is called. */
class Runner {
  readonly passed: string[] = [];
  private readonly before: Act[] = [];
  private readonly after: Act[] = [];
  private readonly tests: [name: string, act: Act][] = [];
  readonly globals = {
    describe: (_name: string, register: Act) => register(),
    beforeEach: (act: Act) => this.before.push(act),
    afterEach: (act: Act) => this.after.push(act),
    it: (name: string, act: Act) => this.tests.push([name, act]),
    expect,
  };

  async run(): Promise<void> {
    for (const [name, act] of this.tests) {
      for (const one of this.before) await one();
      try {
        await act();
        this.passed.push(name);
      } finally {
        for (const one of this.after) await one();
      }
    }
  }
}

/** Whether the bed that a block makes can run a workflow. */
async function canRun(block: Block): Promise<boolean> {
  await block.run();
  const bed = block.declared<OrchestrationTestBed>('bed');
  try {
    return (await bed.result(await bed.start(OrderWorkflow, order))).total === 10;
  } finally {
    await bed.close();
  }
}

export const testing: Page = {
  path: 'docs/guides/testing.md',
  bed: async (declared) => ({ providers: [OrderWorkflow, ...(await declared('A test'))] }),
  blocks: {
    'A test': async (_block, { orchestrator, bed, printed }) => {
      const run = await orchestrator.start('trial', 'ada@example.com');
      await bed.skip('14d');

      expect(await run.result()).toBe('expired');
      expect(printed).toEqual(['ada@example.com: Three days left']);
    },

    'A test (2)': async (block) => {
      const runner = new Runner();
      await block.run(runner.globals);
      await runner.run();

      expect(runner.passed).toEqual(['reminds, and expires', 'remembers over a crash whom it has reminded']);
    },

    'What it is made of': async (block) => {
      expect(await canRun(block)).toBe(true);
    },

    'Another PostgreSQL': async (block, { env }) => {
      env.TEST_DATABASE_URL = testServerUrl();

      expect(await canRun(block)).toBe(true);
    },

    Replays: async (block, { bed, orchestrator }) => {
      const assertReplays = jest.spyOn(bed, 'assertReplays');
      const runs = await orchestrator.startMany(OrderWorkflow, [{ input: order }, { input: order }]);
      await Promise.all(runs.map((run) => run.result()));

      await block.run();

      expect(assertReplays.mock.calls.flat().toSorted()).toEqual(runs.map(({ id }) => id).toSorted());
    },
  },
};
