import { expect } from '@jest/globals';

import type { Page } from '../page.js';

interface Ships {
  ship(order: { id: string; amount: number }): Promise<string>;
}

interface Reserves {
  reserve(item: string, count: unknown): Promise<string>;
}

export const nestEnhancers: Page = {
  path: 'docs/guides/nest-enhancers.md',
  bed: async (declared) => ({ providers: await declared('Guards, pipes, interceptors and filters', 'Pipes') }),
  blocks: {
    'Guards, pipes, interceptors and filters': async (block, { inRun }) => {
      const shipping = block.instance<Ships>('Shipping');

      const small = await inRun(() => shipping.ship({ id: '1', amount: 1_000 }));
      const large = await inRun(() => shipping.ship({ id: '2', amount: 1_001 }));

      expect(await small.result()).toBe('parcel-1');
      await expect(large.result()).rejects.toMatchObject({
        cause: { name: 'StepFailedError', attempts: 1, cause: { name: 'ForbiddenException' } },
      });
      expect(await shipping.ship({ id: '3', amount: 1_001 })).toBe('parcel-3'); // outside of a run
    },

    Pipes: async (block, { inRun }) => {
      const stock = block.instance<Reserves>('Stock');

      const three = await inRun(() => stock.reserve('pens', '03'));
      const some = await inRun(() => stock.reserve('pens', 'some'));

      expect(await three.result()).toBe('3 of pens');
      await expect(some.result()).rejects.toMatchObject({
        cause: { attempts: 1, cause: { name: 'BadRequestException' } },
      });
    },
  },
};
