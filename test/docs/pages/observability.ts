import { expect } from '@jest/globals';
import { TerminusModule } from '@nestjs/terminus';
import { trace } from '@opentelemetry/api';

import { OrchestrationModule, Orchestrator } from '../../../lib/index.js';
import { OrchestrationTelemetryModule } from '../../../lib/telemetry/index.js';
import { RecordedSpans } from '../../support/spans.js';
import { workflow } from '../../support/workflow.js';
import { npmPackages } from '../common-tests.js';
import type { Page, ServedApp } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';

const Payment = workflow({ name: 'payment' }, ({ ctx }) => ctx.step('pay', () => 42));
const Order = workflow('order', async ({ ctx, children }) => {
  await ctx.step('charge', () => trace.getTracer('http').startSpan('POST /charges').end());
  await children.call(Payment, undefined);
  return ctx.step(
    'ship',
    ({ attempt }) => {
      if (attempt === 1) throw new Error('no truck');
    },
    { retry: { initialInterval: 1 } },
  );
});

/** A picture of spans, without the remarks beside them. */
const withoutRemarks = (picture: string) =>
  picture
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/(\S) {2,}.*/, '$1'));

async function tracedOrder({ get }: ServedApp, spans: RecordedSpans): Promise<void> {
  await spans.inSpan('POST /orders', () => get(Orchestrator).execute(Order, undefined));
}

export const observability: Page = {
  path: 'docs/guides/observability.md',
  blocks: {
    'Traces, metrics and health': npmPackages,

    'Traces, metrics and health (2)': async (block, { serve, dataSource }) => {
      const spans = new RecordedSpans();
      spans.register();
      try {
        await block.run();
        const imports = [dataSource(), block.declared<never>('AppModule')];
        await tracedOrder(await serve({ imports, providers: [Order, Payment] }), spans);
        expect(spans.traceIds).toHaveLength(1);
      } finally {
        await spans.unregister();
      }
    },

    Traces: async (block, app) => {
      const spans = new RecordedSpans();
      spans.register();
      try {
        const imports = [app.dataSource(), OrchestrationModule.forRoot(), OrchestrationTelemetryModule.forRoot()];
        await tracedOrder(await app.serve({ imports, providers: [Order, Payment] }), spans);
        await app.closeServed();
        expect(spans.tree).toEqual(withoutRemarks(block.text));
      } finally {
        await spans.unregister();
      }
    },

    Prometheus: npmPackages,

    'Prometheus (2)': async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [dataSource(), OrchestrationModule.forRoot(), block.result.values[0] as never];
      const { url, get } = await serve({ imports, providers: [OrderWorkflow] });
      await get(Orchestrator).execute(OrderWorkflow, order);

      const metrics = await (await fetch(`${url}/metrics`)).text();

      expect(metrics).toMatch(/orchestration_runs_started\S*workflow="order"\S* 1/);
    },

    Health: async (block, { serve, dataSource }) => {
      await block.run();
      const imports = [
        dataSource(),
        OrchestrationModule.forRoot(),
        OrchestrationTelemetryModule.forRoot(),
        TerminusModule,
      ];
      const { url } = await serve({ imports, controllers: [block.declared<never>('HealthController')] });

      const response = await fetch(`${url}/health`);

      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ status: 'ok', info: { orchestration: { status: 'up' } } });
    },
  },
};
