import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

type Files = Record<string, string>;
type Outcome = { files: Files; warnings: string[] } | { error: string };

const collection = fileURLToPath(new URL('../../dist/schematics/collection.json', import.meta.url));

/** What the Nest CLI passes when the user gives a name alone. */
const cliDefaults = {
  language: 'ts',
  sourceRoot: 'src',
  spec: true,
  flat: false,
  specFileSuffix: 'spec',
  skipImport: false,
  format: false,
};

const appModule = `import { Module } from '@nestjs/common';
import { AppService } from './app.service.js';

@Module({
  imports: [],
  providers: [AppService],
})
export class AppModule {}
`;
const shopModule = `import { Module } from '@nestjs/common';

@Module({})
export class ShopModule {}
`;
const esmProject: Files = {
  '/package.json': '{ "name": "app", "type": "module" }',
  '/nest-cli.json': '{ "sourceRoot": "src" }',
  '/src/app.module.ts': appModule,
  '/src/shop/shop.module.ts': shopModule,
};
const commonJsProject: Files = { ...esmProject, '/package.json': '{ "name": "app" }' };

let host: ChildProcess;

beforeAll(() => {
  if (!existsSync(collection)) throw new Error('dist/schematics is missing: run `npm run build` first.');
  host = fork(fileURLToPath(new URL('./fixtures/schematic-host.mjs', import.meta.url)), { execArgv: [] });
});

afterAll(() => {
  host.kill();
});

async function tryGenerate(schematic: string, options: object, project = esmProject): Promise<Outcome> {
  host.send({ schematic, options: { ...cliDefaults, ...options }, files: project });
  const [outcome] = (await once(host, 'message')) as [Outcome];
  return outcome;
}

async function generate(schematic: string, options: object, project = esmProject) {
  const outcome = await tryGenerate(schematic, options, project);
  if ('error' in outcome) throw new Error(outcome.error);
  const created = Object.keys(outcome.files).filter((path) => !(path in project));
  return { ...outcome, created: created.toSorted() };
}

async function refusal(schematic: string, options: object, project = esmProject): Promise<string> {
  const outcome = await tryGenerate(schematic, options, project);
  return 'error' in outcome ? outcome.error : `not refused: ${Object.keys(outcome.files).join(', ')}`;
}

describe('the workflow schematic', () => {
  it('writes the class and its test into a folder of its own', async () => {
    const { created, files } = await generate('workflow', { name: 'order' });

    expect(created).toEqual(['/src/order/order.workflow.spec.ts', '/src/order/order.workflow.ts']);
    expect(files['/src/order/order.workflow.ts']).toContain(
      "@Workflow('order')\nexport class OrderWorkflow implements WorkflowHandler<OrderInput, OrderResult> {",
    );
    expect(files['/src/order/order.workflow.spec.ts']).toContain('bed.start(OrderWorkflow, ');
  });

  it('leaves no trace of the template', async () => {
    const { created, files } = await generate('workflow', { name: 'order' });

    for (const path of created) {
      expect(path).not.toMatch(/__|template/);
      expect(files[path]).not.toMatch(/<%|%>|undefined/);
    }
  });

  it('registers the class as a provider of the nearest module', async () => {
    const { files } = await generate('workflow', { name: 'shop/order' });

    expect(files['/src/app.module.ts']).toBe(appModule);
    expect(files['/src/shop/shop.module.ts']).toContain("import { OrderWorkflow } from './order/order.workflow.js';");
    expect(files['/src/shop/shop.module.ts']).toContain('providers: [OrderWorkflow]');
  });

  it('adds to the providers that are there', async () => {
    const { files } = await generate('workflow', { name: 'order' });

    expect(files['/src/app.module.ts']).toContain("import { OrderWorkflow } from './order/order.workflow.js';");
    expect(files['/src/app.module.ts']).toContain('providers: [AppService, OrderWorkflow]');
  });

  it('imports without a suffix in a CommonJS project', async () => {
    const { files } = await generate('workflow', { name: 'order' }, commonJsProject);

    expect(files['/src/app.module.ts']).toContain("from './order/order.workflow';");
    expect(files['/src/order/order.workflow.spec.ts']).toContain("from './order.workflow';");
  });

  it('imports with the suffix .js in an ESM project', async () => {
    const { files } = await generate('workflow', { name: 'order' });

    expect(files['/src/order/order.workflow.spec.ts']).toContain("from './order.workflow.js';");
  });

  it.each([
    ['the path beside the name', { name: 'order', path: 'shop' }],
    ['the path inside the name', { name: 'shop/order' }],
  ])('takes %s', async (_, options) => {
    const { created } = await generate('workflow', options);

    expect(created).toEqual(['/src/shop/order/order.workflow.spec.ts', '/src/shop/order/order.workflow.ts']);
  });

  it('makes no folder with --flat', async () => {
    const { created, files } = await generate('workflow', { name: 'shop/order', flat: true });

    expect(created).toEqual(['/src/shop/order.workflow.spec.ts', '/src/shop/order.workflow.ts']);
    expect(files['/src/shop/shop.module.ts']).toContain("from './order.workflow.js';");
  });

  it('writes no test with --no-spec', async () => {
    const { created } = await generate('workflow', { name: 'order', spec: false });

    expect(created).toEqual(['/src/order/order.workflow.ts']);
  });

  it('names the test by --spec-file-suffix', async () => {
    const { created } = await generate('workflow', { name: 'order', specFileSuffix: 'test' });

    expect(created).toContain('/src/order/order.workflow.test.ts');
  });

  it('leaves the modules alone with --skip-import', async () => {
    const { files } = await generate('workflow', { name: 'order', skipImport: true });

    expect(files['/src/app.module.ts']).toBe(appModule);
  });

  it('formats what it wrote with --format', async () => {
    const { files } = await generate('workflow', { name: 'shop/monthly-customer-invoice', format: true });

    const source = files['/src/shop/monthly-customer-invoice/monthly-customer-invoice.workflow.ts'];
    expect(source).toContain('export class MonthlyCustomerInvoiceWorkflow implements WorkflowHandler<\n');
  });

  it('follows the source root of the project', async () => {
    const { created } = await generate('workflow', { name: 'order', sourceRoot: 'apps/shop/src' });

    expect(created).toContain('/apps/shop/src/order/order.workflow.ts');
  });

  it('says so when there is no module to register in', async () => {
    const { created, warnings } = await generate('workflow', { name: 'order' }, { '/package.json': '{}' });

    expect(created).toContain('/src/order/order.workflow.ts');
    expect(warnings).toEqual([expect.stringContaining('add OrderWorkflow to the providers of one')]);
  });

  it('works with the name alone', async () => {
    const { created } = await generate('workflow', { ...blank(cliDefaults), name: 'order' });

    expect(created).toEqual(['/src/order/order.workflow.spec.ts', '/src/order/order.workflow.ts']);
  });
});

describe('a name', () => {
  it.each([
    'orderWorkflow',
    'OrderWorkflow',
    'order-workflow',
    'order_workflow',
    'order.workflow',
    'order.workflow.ts',
  ])('that says workflow already, %s, is not given the word twice', async (name) => {
    const { created, files } = await generate('workflow', { name });

    expect(created).toEqual(['/src/order/order.workflow.spec.ts', '/src/order/order.workflow.ts']);
    expect(files['/src/order/order.workflow.ts']).toContain('export class OrderWorkflow ');
  });

  it.each([
    ['orderItem', 'order-item', 'OrderItemWorkflow'],
    ['Order Item', 'order-item', 'OrderItemWorkflow'],
    ['order_item', 'order_item', 'OrderItemWorkflow'],
    ['dataflow', 'dataflow', 'DataflowWorkflow'],
    ['workflow-audit', 'workflow-audit', 'WorkflowAuditWorkflow'],
    ['order2', 'order2', 'Order2Workflow'],
  ])('%s becomes the file %s and the class %s', async (name, file, className) => {
    const { files } = await generate('workflow', { name });

    expect(files[`/src/${file}/${file}.workflow.ts`]).toContain(`export class ${className} `);
  });

  it.each([
    ['2fast', '"2fast" cannot be the name of a workflow', 'Did you mean "fast"?'],
    ['order.v2', '"order.v2" cannot be the name of a workflow', 'Did you mean "order-v2"?'],
    ['order!', '"order!" cannot be the name of a workflow', 'Did you mean "order"?'],
    ['42', '"42" cannot be the name of a workflow', 'For example "order"'],
    ['workflow', 'says only that it is a workflow, not which', 'For example "order"'],
    ['shop/Workflow', 'says only that it is a workflow, not which', 'For example "order"'],
  ])('%s is refused', async (name, problem, help) => {
    const message = await refusal('workflow', { name });

    expect(message).toContain(problem);
    expect(message).toContain(help);
  });

  it('that leads out of the project is refused', async () => {
    expect(await refusal('workflow', { name: '../../order' })).toContain('is invalid');
  });

  it('is required', async () => {
    expect(await refusal('workflow', {})).toContain("must have required property 'name'");
  });

  it('that is taken is refused', async () => {
    const first = await generate('workflow', { name: 'order' });

    const message = await refusal('workflow', { name: 'orderWorkflow' }, first.files);

    expect(message).toContain('src/order/order.workflow.ts exists already');
  });
});

describe('the step schematic', () => {
  it('writes a provider, its test and its place in the nearest module', async () => {
    const { created, files } = await generate('step', { name: 'shop/chargeStep' });

    expect(created).toEqual(['/src/shop/charge/charge.step.spec.ts', '/src/shop/charge/charge.step.ts']);
    expect(files['/src/shop/charge/charge.step.ts']).toContain('@Injectable()\nexport class ChargeStep {');
    expect(files['/src/shop/charge/charge.step.spec.ts']).toContain("from './charge.step.js';");
    expect(files['/src/shop/shop.module.ts']).toContain('providers: [ChargeStep]');
  });

  it('says step in its errors', async () => {
    expect(await refusal('step', { name: 'step' })).toContain('says only that it is a step');
  });
});

describe('the flow schematic', () => {
  it('writes a list of steps and its test, and registers the class', async () => {
    const { created, files } = await generate('flow', { name: 'shop/return' });

    expect(created).toEqual(['/src/shop/return/return.flow.spec.ts', '/src/shop/return/return.flow.ts']);
    expect(files['/src/shop/return/return.flow.ts']).toContain(
      "@Workflow('return')\nexport class ReturnFlow extends Flow<ReturnInput, ReturnResult> {",
    );
    expect(files['/src/shop/shop.module.ts']).toContain("import { ReturnFlow } from './return/return.flow.js';");
    expect(files['/src/shop/shop.module.ts']).toContain('providers: [ReturnFlow]');
    for (const path of created) expect(files[path]).not.toMatch(/<%|%>|undefined/);
  });

  it('imports without a suffix in a CommonJS project', async () => {
    const { files } = await generate('flow', { name: 'return' }, commonJsProject);

    expect(files['/src/return/return.flow.spec.ts']).toContain("from './return.flow';");
  });

  it('says flow in its errors, and the kind once in its names', async () => {
    expect(await refusal('flow', { name: 'flow' })).toContain('says only that it is a flow');
    expect((await generate('flow', { name: 'orderFlow' })).created).toContain('/src/order/order.flow.ts');
  });
});

describe('nest add', () => {
  it.each([
    [undefined, 'OrchestrationModule.forRoot()'],
    ['embedded', 'OrchestrationModule.forRoot()'],
    ['datasource', "OrchestrationModule.forRoot({ dataSource: 'default' })"],
    ['url', "OrchestrationModule.forRoot({ connection: { type: 'postgres', url: process.env.DATABASE_URL } })"],
  ])('imports the module in the root module, with the database that was chosen: %s', async (database, imported) => {
    const { files, created } = await generate('nest-add', database ? { database } : {});

    expect(created).toEqual([]);
    expect(files['/src/app.module.ts']).toBe(
      appModule
        .replace("service.js';\n", "service.js';\nimport { OrchestrationModule } from 'nestjs-orchestration';\n")
        .replace(/imports: \[\]/, `imports: [${imported}]`),
    );
    expect(files['/src/shop/shop.module.ts']).toBe(shopModule);
  });

  it('adds to the imports that are there, below imports of several lines', async () => {
    const module = `import {\n  Module,\n} from '@nestjs/common';\nimport { ShopModule } from './shop/shop.module';\n\n@Module({ imports: [ShopModule] })\nexport class RootModule {}\n`;
    const options = { module: 'src/root.module.ts', database: 'embedded' };

    const { files } = await generate('nest-add', options, { ...commonJsProject, '/src/root.module.ts': module });

    expect(files['/src/root.module.ts']).toBe(
      module
        .replace("shop.module';", "shop.module';\nimport { OrchestrationModule } from 'nestjs-orchestration';")
        .replace('[ShopModule]', '[ShopModule, OrchestrationModule.forRoot()]'),
    );
    expect(files['/src/app.module.ts']).toBe(appModule);
  });

  it('changes nothing a second time, nor when another module has it; tests and comments do not count', async () => {
    const first = await generate('nest-add', { database: 'url' });
    const second = await generate('nest-add', { database: 'embedded' }, first.files);
    const inShop = {
      ...esmProject,
      '/src/shop/shop.module.ts': `${shopModule}\nOrchestrationModule.forRootAsync({});`,
    };
    const elsewhere = await generate('nest-add', {}, inShop);
    const inTest = {
      ...esmProject,
      '/src/order.workflow.spec.ts': 'OrchestrationModule.forRoot({})',
      '/src/notes.ts': '// OrchestrationModule.forRoot()',
    };
    const tested = await generate('nest-add', {}, inTest);

    expect(second.files).toEqual(first.files);
    expect(elsewhere.files).toEqual(inShop);
    expect(tested.files['/src/app.module.ts']).toContain('OrchestrationModule.forRoot()');
  });

  it('says what to do where there is no root module, or none that it can extend', async () => {
    const { '/src/app.module.ts': _, ...withoutModule } = esmProject;
    const withVariable = {
      ...esmProject,
      '/src/app.module.ts': '@Module({ imports: modules })\nexport class AppModule {}',
    };

    expect(await refusal('nest-add', {}, withoutModule)).toBe(
      'There is no src/app.module.ts. Name the root module with --module, or add OrchestrationModule.forRoot() to its imports yourself.',
    );
    expect(await refusal('nest-add', {}, withVariable)).toContain(
      'src/app.module.ts has no @Module({ imports: [...] }) that could be extended',
    );
    expect(await refusal('nest-add', { database: 'mysql' })).toContain('must be equal to one of the allowed values');
  });
});

describe('the collection', () => {
  it('has the schematics of Nest as well', async () => {
    const { created } = await generate('service', { name: 'stock' });

    expect(created).toContain('/src/stock/stock.service.ts');
  });

  it('refuses a JavaScript project', async () => {
    expect(await refusal('workflow', { name: 'order', language: 'js' })).toContain('written in TypeScript');
  });
});

/** The same options, none of them given. */
function blank(options: object): object {
  return Object.fromEntries(Object.keys(options).map((key) => [key, undefined]));
}
