import { format } from 'node:util';

import { jest } from '@jest/globals';
import { type DynamicModule, type INestApplication, Module, type ModuleMetadata, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { AddressInfo } from 'node:net';

import { ChildOrchestrator, Orchestrator, RunContext, type RunHandle } from '../../lib/index.js';
import { OrchestrationTestBed, type TestBedOptions } from '../../lib/testing/index.js';
import { testServerUrl } from '../support/database.js';
import { workflow } from '../support/workflow.js';
import { loadModule } from './block-loader.js';
import { DocumentedApp } from './documented-app.js';
import type { CodeBlock } from './documents.js';
import { type FragmentResult, type FragmentWrapper, PRELUDE } from './fragment.js';
import * as prelude from './fixtures/prelude.js';

/** Names for a block in the place of those that it would import from the prelude or a package. */
export type Scope = Record<string, unknown>;

type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

/** Runs one block, and expects what the text around it says. */
export type BlockTest = (block: Block, app: PageApp) => Promise<void>;

/** What a document's blocks are run in, and how: one test for each block, by the block's name. */
export interface Page {
  path: string;
  /** The test bed of all its blocks; `declared` are the classes of those blocks. */
  bed?: (declared: (...blocks: string[]) => Promise<Type[]>) => Promise<TestBedOptions> | TestBedOptions;
  blocks: Record<string, BlockTest>;
}

/** A Nest app over HTTP. */
export interface ServedApp {
  url: string;
  get<T>(token: Type<T>): T;
}

/** A block that can be run. */
export class Block {
  /** What the last run of a fragment left behind. */
  result: FragmentResult = { declared: {}, values: [] };
  private isUsed = false;

  constructor(
    private readonly block: CodeBlock,
    private readonly app: PageApp,
  ) {}

  get text(): string {
    this.isUsed = true;
    return this.block.text;
  }

  assertUsed(): void {
    if (!this.isUsed) throw new Error(`The test of "${this.block.name}" does not run it.`);
  }

  /** Runs it. Gives what it returns, for a file its exports. */
  async run(scope: Scope = {}): Promise<unknown> {
    const { block } = this;
    if (block.language !== 'ts') throw new Error(`"${block.name}" is no TypeScript.`);
    const { fragment, ...exports } = await this.app.load(this, block, scope);
    if (!fragment) return exports;
    const returned = await (fragment as () => Promise<unknown>)();
    if (!isFragmentResult(returned)) return returned;
    this.result = returned;
  }

  /** Starts a run whose code it is. The output is what the block returns. */
  inRun(scope: Scope = {}): Promise<RunHandle> {
    return this.app.inRun(() => this.run(scope));
  }

  /** The bed's instance of a class of it that the bed provides. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the test knows it
  instance<T>(name: string): T {
    return this.app.bed.get<T>(this.result.declared[name] as Type<T>);
  }

  /** A name that it has declared when it was run. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the test knows it
  declared<T = unknown>(name: string): T {
    return this.result.declared[name] as T;
  }
}

/** The app of a page: a test bed on a database of its own, where the page's blocks are run one after the other. */
export class PageApp {
  /** What the blocks have written to the console. */
  readonly printed: string[] = [];
  /** What the blocks find as `process.env`. */
  readonly env: Record<string, string> = {};
  /** What the blocks call as `fetch`. */
  fetch: Fetch = globalThis.fetch;
  bed!: OrchestrationTestBed;
  private readonly blocks: ReadonlyMap<string, Block>;
  private readonly files = new Map<string, Promise<Record<string, unknown>>>();
  private readonly codes: (() => Promise<unknown>)[] = [];
  private readonly served: INestApplication[] = [];
  private documentedApp: DocumentedApp | undefined;

  constructor(
    readonly root: string,
    private readonly page: Page,
    private readonly codeBlocks: readonly CodeBlock[],
    private readonly wrapper: FragmentWrapper,
  ) {
    this.blocks = new Map(codeBlocks.map((block) => [block.name, new Block(block, this)]));
  }

  async start(): Promise<void> {
    const { page } = this;
    const options = await page.bed?.((...names) => this.classesOf(names));
    const fragment = workflow<number>('fragment', (_tools, index) => this.codes[index]!());
    this.bed = await OrchestrationTestBed.create({
      connection: { type: 'postgres', url: testServerUrl() },
      ...options,
      providers: [fragment, ...(options?.providers ?? [])],
    });
    this.env.DATABASE_URL = urlOf(this.bed.connection.database!);
  }

  async close(): Promise<void> {
    await this.documentedApp?.remove();
    await this.bed?.close();
  }

  async run(name: string, test: BlockTest): Promise<void> {
    const block = this.block(name);
    this.printed.length = 0;
    try {
      await test(block, this);
      block.assertUsed();
    } finally {
      jest.restoreAllMocks();
      this.fetch = globalThis.fetch;
      await this.closeServed();
    }
  }

  get orchestrator(): Orchestrator {
    return this.bed.orchestrator;
  }

  readonly block = (name: string): Block => {
    const block = this.blocks.get(name);
    if (!block) throw new Error(`${this.page.path} has no block "${name}".`);
    return block;
  };

  get ctx(): RunContext {
    return this.bed.get(RunContext);
  }

  get children(): ChildOrchestrator {
    return this.bed.get(ChildOrchestrator);
  }

  print(line: string): void {
    this.printed.push(line);
  }

  /** Starts a run with this code. */
  readonly inRun = <T>(code: () => Promise<T>): Promise<RunHandle<T>> =>
    this.orchestrator.start('fragment', this.codes.push(code) - 1);

  /** Resolves when all runs have ended, or wait. */
  readonly atRest = (): Promise<void> => this.bed.skip(0);

  /** A module that gives an app the bed's database as its default DataSource. */
  readonly dataSource = (options: object = {}): DynamicModule =>
    TypeOrmModule.forRoot({ ...this.bed.connection, ...options });

  /** Starts an app of its own, until the end of the block's test. */
  readonly serve = async (metadata: ModuleMetadata, prepare?: (app: INestApplication) => void): Promise<ServedApp> => {
    @Module({})
    class DocumentedModule {}
    const app = await NestFactory.create(
      { module: DocumentedModule, ...metadata },
      { logger: false, abortOnError: false },
    );
    this.served.push(app);
    prepare?.(app);
    await app.listen(0, '127.0.0.1');
    const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
    const get: ServedApp['get'] = (token) => app.get(token, { strict: false });
    return { url: `http://127.0.0.1:${port}`, get };
  };

  async closeServed(): Promise<void> {
    for (const app of this.served.splice(0)) await app.close();
  }

  /** The app that the files of the page are, as a process. */
  async process(): Promise<DocumentedApp> {
    if (!this.documentedApp) {
      const files = this.codeBlocks.filter(({ file }) => file !== undefined);
      this.documentedApp = new DocumentedApp(this.root, files);
      await this.documentedApp.start();
    }
    return this.documentedApp;
  }

  /** @internal for `Block` */
  load(block: Block, { file, name }: CodeBlock, scope: Scope): Promise<Record<string, unknown>> {
    const known = this.files.get(name);
    if (known) return known;
    const resolve = (path: string) => this.resolve(path, scope);
    if (file === undefined) return loadModule(this.wrapper.wrap(block.text), { globals: this.globals(), resolve });
    const loaded = loadModule(block.text, { globals: { ...this.globals(), ...scope }, resolve });
    this.files.set(name, loaded);
    return loaded;
  }

  private globals(): Scope {
    return {
      console: { log: (...args: unknown[]) => this.print(format(...args)) },
      process: { env: this.env },
      fetch: (...args: Parameters<Fetch>) => this.fetch(...args),
    };
  }

  private async resolve(path: string, scope: Scope): Promise<object> {
    const source = `src/${path.replace(/^\.\//, '').replace(/\.js$/, '.ts')}`;
    const file = this.codeBlocks.find((block) => block.file === source);
    if (file) return (await this.block(file.name).run()) as object;
    if (path.endsWith(PRELUDE.replace(/\.ts$/, '.js'))) return { ...prelude, ...this.ofTheApp(), ...scope };
    return { ...((await import(path)) as object), ...scope };
  }

  /** What the prelude only declares. */
  private ofTheApp(): object {
    if (!this.bed) return {};
    const { bed, orchestrator, children, ctx } = this;
    return { bed, orchestrator, children, ctx };
  }

  private async classesOf(names: readonly string[]): Promise<Type[]> {
    const classes: Type[] = [];
    for (const name of names) {
      const block = this.block(name);
      const exported = (await block.run()) as object | undefined;
      const all = Object.values(exported ?? block.result.declared);
      classes.push(...all.filter((one): one is Type => typeof one === 'function' && /^class\b/.test(String(one))));
    }
    return classes;
  }
}

function isFragmentResult(value: unknown): value is FragmentResult {
  return typeof value === 'object' && value !== null && 'declared' in value && 'values' in value;
}

/** The URL of a database on the server of the tests. */
function urlOf(database: string): string {
  const url = new URL(testServerUrl());
  url.pathname = `/${database}`;
  return url.href;
}
