import { AsyncLocalStorage } from 'node:async_hooks';

import { expect } from '@jest/globals';
import { ClsModule, ClsService } from 'nestjs-cls';

import { type CallerContext, Orchestrator } from '../../../lib/index.js';
import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';

/** What the code of a run sees of its caller. */
let look: () => unknown;
const Look = workflow('look', () => look() ?? 'nothing');

const callers = new AsyncLocalStorage<{ user: string } | undefined>();
const context: CallerContext = {
  capture: () => callers.getStore(),
  run: (caller: { user: string } | undefined, next) => callers.run(caller, next),
};
const Email = workflow('email', ({ ctx }) => ({ ...callers.getStore(), ...ctx.attributes }));

export const callerContext: Page = {
  path: 'docs/guides/context.md',
  bed: () => ({ providers: [Email], orchestration: { context } }),
  blocks: {
    'Context of the caller': async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [dataSource(), ClsModule.forRoot({ global: true }), block.result.values[0] as never];
      const { get } = await serve({ imports, providers: [Look] });
      const cls = get(ClsService);
      look = () => cls.get('user');

      const asAda = await cls.runWith({ user: 'Ada' } as never, () => get(Orchestrator).execute(Look, undefined));
      const asNobody = await get(Orchestrator).execute(Look, undefined);

      expect([asAda, asNobody]).toEqual(['Ada', 'nothing']);
    },

    'Context of the caller (2)': async (block, { serve, dataSource }) => {
      await block.run();
      const Audit = block.declared<new () => { note(what: string): Promise<string> }>('Audit');
      const imports = [dataSource(), block.result.values[0] as never];
      const { get } = await serve({ imports, providers: [Look, Audit] });
      const asUser = (user: string, act: () => Promise<unknown>) =>
        block.declared<typeof callers>('callers').run({ user }, act);
      look = () => get(Audit).note('shipped');

      const inARun = await asUser('Ada', () => get(Orchestrator).execute(Look, undefined));
      const inAController = await asUser('Bob', () => get(Audit).note('asked'));
      const byNobody = await get(Orchestrator).execute(Look, undefined);

      expect([inARun, inAController, byNobody]).toEqual(['shipped, by Ada', 'asked, by Bob', 'shipped, by nobody']);
    },

    'What children have': async (block, { inRun, ctx, orchestrator }) => {
      const run = await callers.run({ user: 'Ada' }, () =>
        inRun(async () => {
          await ctx.setAttributes({ city: 'Oslo' });
          await block.run({ EmailWorkflow: Email });
        }),
      );
      await run.result();

      const { items } = await orchestrator.listChildren(run.id);
      expect(await orchestrator.get(items[0]!.id)).toMatchObject({ output: { user: 'Ada', city: 'Oslo' } });
    },
  },
};
