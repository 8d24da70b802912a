import { InsideRunError, ResultTimeoutError } from '../../lib/index.js';
import { startApp, type TestApp } from '../support/app.js';
import { type EngineDatabase, useEngineDatabase } from '../support/engine-database.js';
import { errorOf } from '../support/error-of.js';
import { workflow } from '../support/workflow.js';

let opened: EngineDatabase;
useEngineDatabase((made) => (opened = made));

const listening = workflow('listening', async ({ ctx }) => ctx.waitForSignal<string>('word'));

describe('The handle of a child', () => {
  it('tells its status, sends it signals and cancels it', async () => {
    const parent = workflow('parent', async ({ children }) => {
      const heard = await children.start('listening', undefined, { ref: 'heard' });
      const dropped = await children.start('listening', undefined, { ref: 'dropped' });
      await heard.signal('word', 'hello');
      const word = await heard.result();
      await dropped.cancel('not needed');
      const end = await children.await(dropped.id).catch((error: unknown) => (error as Error).name);
      const statuses = [await heard.status(), await dropped.status()];
      return { word, end, statuses };
    });
    const app = await startApp({ database: opened.database, providers: [parent, listening] });

    const run = await app.orchestrator.start('parent', undefined);

    expect(await run.result()).toMatchObject({
      word: 'hello',
      end: 'ChildCancelledError',
      statuses: ['completed', 'cancelled'],
    });
    const refs = async (status: 'completed' | 'cancelled') =>
      (await run.children({ status })).items.map(({ ref }) => ref);
    expect([await refs('completed'), await refs('cancelled')]).toEqual([['heard'], ['dropped']]);
    const [dropped] = (await run.children({ status: 'cancelled' })).items;
    expect(await app.orchestrator.get(dropped!.id)).toMatchObject({ error: { reason: 'not needed' } });
  });
});

describe('The result of a run', () => {
  it('is waited for as long as the caller says; the run goes on', async () => {
    const { orchestrator } = await startApp({ database: opened.database, providers: [listening] });
    const run = await orchestrator.start('listening', undefined);

    for (const asking of [orchestrator.result(run.id, { timeout: 30 }), run.result({ timeout: 30 })]) {
      const error = await errorOf(asking);
      expect(error).toBeInstanceOf(ResultTimeoutError);
      expect(error).toMatchObject({ code: 'RESULT_TIMEOUT', runId: run.id, timeoutMs: 30 });
    }
    await run.signal('word', 'at last');
    expect(await run.result()).toBe('at last');
  });

  it('is timeoutValue when it is not there in time, also undefined, and itself when it is', async () => {
    const { orchestrator } = await startApp({ database: opened.database, providers: [listening] });
    const run = await orchestrator.start('listening', undefined);

    expect(await run.result({ timeout: 30, timeoutValue: 'not yet' })).toBe('not yet');
    expect(await orchestrator.result(run.id, { timeout: 30, timeoutValue: undefined })).toBeUndefined();
    await run.signal('word', 'at last');
    expect(await run.result({ timeout: '20s', timeoutValue: 'not yet' })).toBe('at last');
  });

  it('is not to be waited for inside of another, where it would hold the slot: the error names what to use', async () => {
    const started: TestApp[] = [];
    const parent = workflow('parent', async () => {
      const attempts = [
        () => started[0]!.orchestrator.result('019af000-0000-7000-8000-000000000000'),
        () => started[0]!.orchestrator.execute('listening', undefined),
      ];
      const errors: string[] = [];
      for (const attempt of attempts)
        await attempt().catch((error: unknown) => {
          errors.push(`${(error as Error).name}: ${(error as Error).message}`);
        });
      return errors;
    });
    const app = await startApp({ database: opened.database, providers: [parent, listening] });
    started.push(app);

    const errors = await app.orchestrator.execute('parent', undefined);

    expect(errors).toEqual([
      expect.stringMatching(`^${InsideRunError.name}: .*children\\.await`),
      expect.stringMatching(`^${InsideRunError.name}: .*children\\.call`),
    ]);
    expect((await app.orchestrator.list({ workflow: 'listening' })).items).toEqual([]);
  });
});
