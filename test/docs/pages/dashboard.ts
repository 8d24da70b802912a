import { expect } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { OrchestrationModule } from '../../../lib/index.js';
import { workflow } from '../../support/workflow.js';
import type { Page } from '../page.js';

let isMended = false;
const Order = workflow('order', () => {
  if (!isMended) throw new Error('broken');
  return 'mended';
});

/** What an authentication middleware would put on a request; the header says who it is. */
const asHeaderSays = (property: string) => (app: INestApplication) =>
  app.use((request: Record<string, { as?: string }>, _response: unknown, next: () => void) => {
    const role = request.headers!.as;
    if (role) (request as Record<string, unknown>)[property] = { roles: [role], groups: [role] };
    next();
  });

/** The statuses of the answers: of a look at the page, and of a change of a run that there is not. */
async function answersTo(url: string, role?: string): Promise<number[]> {
  const headers = role ? { as: role } : undefined;
  const page = await fetch(`${url}/orchestration`, { headers });
  const retry = `${url}/orchestration/api/runs/01a1fb3f-c03f-7091-8b24-d02839e9fc68/retry`;
  return [page.status, (await fetch(retry, { method: 'POST', headers })).status];
}

export const dashboard: Page = {
  path: 'docs/guides/dashboard.md',
  bed: () => ({ providers: [Order] }),
  blocks: {
    Dashboard: async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [dataSource(), block.declared<never>('AppModule')];
      const { url } = await serve({ imports }, asHeaderSays('user'));

      expect(await answersTo(url)).toEqual([403, 403]);
      expect(await answersTo(url, 'support')).toEqual([200, 403]);
      expect(await answersTo(url, 'admin')).toEqual([200, 404]);
    },

    Options: async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [dataSource(), OrchestrationModule.forRoot(), block.result.values[0] as never];
      const { url } = await serve({ imports }, asHeaderSays('session'));

      expect(await answersTo(url, 'support')).toEqual([200, 403]);
      expect(await answersTo(url, 'admin')).toEqual([200, 404]);
    },

    'The API': async (block, app) => {
      const { OrchestrationDashboardModule } = await import('../../../lib/dashboard/index.js');
      const { orchestrator } = app;
      const run = await orchestrator.start(Order, undefined);
      await expect(run.result()).rejects.toThrow('broken');
      isMended = true;
      const imports = [app.dataSource(), OrchestrationModule.forRoot(), OrchestrationDashboardModule.forRoot()];
      const { url } = await app.serve({ imports });
      app.fetch = (input, init) => fetch(input.replace('http://localhost:3000', url), init);

      await block.run({ runId: run.id });

      expect(block.declared<{ id: string }[]>('items').map(({ id }) => id)).toEqual([run.id]);
      expect(await run.result()).toBe('mended');
    },
  },
};
