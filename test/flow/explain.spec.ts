import {
  ChildOrchestrator,
  type ExplainedEntry,
  type ExplainedRun,
  type ExplainedWorkflow,
  goTo,
  RunNotFoundError,
  Step,
  Workflow,
  WorkflowNotRegisteredError,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const NASTY = 'a "quoted" [x]{y}(z) #1; `end`\n%%{init}%% <b>&amp; größe 名 😀 --> end';
/** The first 79 characters, but for what Mermaid could take for syntax. */
const NASTY_LABEL =
  'a #34;quoted#34; #91;x#93;#123;y#125;(z) #35;1#59; #96;end#96; #37;#37;#123;init#125;#37;#37; #60;b#62;#38;amp#59; größe 名 #128512; --#62; end';

@Workflow({ name: 'shop order', version: 3 })
class ShopOrderWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  @Step()
  validate(): void {}

  @Step({ parallel: 'enrich', onError: 'complete_all', name: NASTY })
  nasty(): void {}

  @Step({ parallel: 'enrich', when: () => false })
  stock(): void {}

  @Step({ when: () => true })
  end(): unknown {
    return goTo('ship', { shipped: true });
  }

  @Step()
  skipped(): void {}

  @Step()
  ship(): Promise<unknown> {
    return this.children.call('parcel', null, { ref: 'parcel' });
  }
}

const Parcel = workflow('parcel', async ({ ctx, children }) => {
  await ctx.step('weigh', () => 1);
  await children.call('courier', undefined, { ref: 'courier' });
});
const Courier = workflow('courier', ({ ctx }) => ctx.sleep('1d'));
const Failing = workflow('failing', ({ ctx }) =>
  ctx.step(
    'twice',
    () => {
      throw new RangeError('no luck');
    },
    { retry: { maxAttempts: 2, initialInterval: 1 } },
  ),
);
const Long = workflow<number>('long', async ({ ctx, children }, steps) => {
  for (let step = 0; step < steps; step++) await ctx.step('step', () => step);
  await children.map('leaf', Array.from({ length: 30 }));
});
const Leaf = workflow('leaf', () => undefined);
const Nested = workflow<number>('nested', ({ children }, depth) =>
  depth === 0 ? undefined : children.call('nested', depth - 1),
);

@Workflow('coded')
class CodedWorkflow {
  run(): void {}

  @Step()
  first(): void {}

  @Step({ name: 'second' })
  other(): void {}
}

const PROVIDERS = [ShopOrderWorkflow, Parcel, Courier, Failing, Long, Leaf, Nested, CodedWorkflow];

describe('orchestrator.explain', () => {
  let database: TestDatabase;
  let app: TestApp;

  beforeAll(async () => {
    database = await createTestDatabase();
    app = await startApp({ database, providers: PROVIDERS });
  });

  afterAll(async () => {
    await closeApps();
    await database.drop();
  });

  it('gives the shape of a flow: its order, groups and conditions', async () => {
    const { tree, mermaid } = await app.orchestrator.explain(ShopOrderWorkflow);

    expect(tree).toEqual({
      kind: 'workflow',
      workflow: 'shop order',
      version: 3,
      isFlow: true,
      steps: [
        { kind: 'step', name: 'validate', isConditional: false },
        {
          kind: 'group',
          name: 'enrich',
          onError: 'complete_all',
          steps: [
            { kind: 'step', name: NASTY, isConditional: false },
            { kind: 'step', name: 'stock', isConditional: true },
          ],
        },
        { kind: 'step', name: 'end', isConditional: true },
        { kind: 'step', name: 'skipped', isConditional: false },
        { kind: 'step', name: 'ship', isConditional: false },
      ],
    } satisfies ExplainedWorkflow);
    expect(mermaid.split('\n').map((line) => line.trim())).toEqual([
      'flowchart TD',
      'n1(["shop order@3"])',
      'n2["validate"]',
      'n1 --> n2',
      'subgraph g3["enrich (complete_all)"]',
      `n4["${NASTY_LABEL}"]`,
      'n5{"when"}',
      'n6["stock"]',
      'n5 -->|yes| n6',
      'end',
      'n2 --> g3',
      'n7{"when"}',
      'n8["end"]',
      'n7 -->|yes| n8',
      'g3 --> n7',
      'n9["skipped"]',
      'n8 --> n9',
      'n7 -->|no| n9',
      'n10["ship"]',
      'n9 --> n10',
      'n11(["end"])',
      'n10 --> n11',
      '',
    ]);
  });

  it('gives the declared steps of a class with run, whose order is code, by class and by name', async () => {
    const { tree, mermaid } = await app.orchestrator.explain(CodedWorkflow);

    expect(tree).toMatchObject({ isFlow: false, steps: [{ name: 'first' }, { name: 'second' }] });
    expect(mermaid).toContain('n1 -.-> n2');
    expect((await app.orchestrator.explain<ExplainedWorkflow>('coded')).tree).toEqual(tree);
  });

  it('gives what a run did and waits for, with the children it waits for', async () => {
    const run = await app.orchestrator.start(ShopOrderWorkflow, { id: 'a' });
    await until('all wait', async () => {
      const { children } = await app.orchestrator.tree(run.id);
      return children[0]?.children[0]?.status === 'waiting' && (await run.status()) === 'waiting';
    });

    const { tree, mermaid } = await app.orchestrator.explain(run.id);

    expect(entriesOf(tree)).toEqual([
      ['step', 'validate', 'completed', undefined],
      ['decision', 'stock', 'completed', false],
      ['step', NASTY.replace('#', '##'), 'completed', undefined],
      ['decision', 'end', 'completed', true],
      ['step', 'end', 'completed', undefined],
    ]);
    expect(tree).toMatchObject({
      ...{ kind: 'run', id: run.id, workflow: 'shop order', version: 3, ref: undefined, status: 'waiting' },
      ...{ startedAt: expect.any(Date) as Date, finishedAt: undefined, durationMs: undefined, isCut: false },
      waitingFor: [{ kind: 'child', name: 'parcel' }],
      children: [
        {
          ...{ workflow: 'parcel', ref: 'parcel', status: 'waiting', entries: [{ key: 'weigh', attempts: 1 }] },
          children: [{ workflow: 'courier', waitingFor: [{ kind: 'timer' }], entries: [], children: [] }],
        },
      ],
    });
    const chart = parse(mermaid);
    expect(chart.frames).toEqual([
      'shop order@3 (waiting)',
      'parcel: parcel@1 (waiting)',
      'courier: courier@1 (waiting)',
    ]);
    expect(chart.labels).toEqual(expect.arrayContaining(['stock: no', 'end: yes', 'waits for child parcel']));
  });

  it('gives attempts, durations and ends of what failed', async () => {
    const run = await app.orchestrator.start(Failing, undefined);
    await run.result().catch(() => {});

    const { tree, mermaid } = await app.orchestrator.explain(run.id);

    expect(tree).toMatchObject({ status: 'failed', entries: [{ key: 'twice', status: 'failed', attempts: 2 }] });
    expect(tree.durationMs).toBe(tree.finishedAt!.getTime() - tree.startedAt!.getTime());
    const [entry] = tree.entries as [ExplainedEntry];
    expect(entry.durationMs).toBe(entry.finishedAt.getTime() - entry.startedAt.getTime());
    expect(mermaid).toMatch(/n\d+\["step twice \(failed, 2 attempts, \d+ ms\)"\]:::failed/);
  });

  it('is cut where a run has too much, too many children, or too deep ones', async () => {
    const wide = await app.orchestrator.start(Long, 100);
    const deep = await app.orchestrator.start(Nested, 9);
    await Promise.all([wide.result(), deep.result()]);

    const [{ tree: wideTree, mermaid }, { tree: deepTree }] = await Promise.all([
      app.orchestrator.explain(wide.id),
      app.orchestrator.explain(deep.id),
    ]);

    expect([wideTree.isCut, wideTree.entries.length, wideTree.children.length]).toEqual([true, 80, 19]);
    expect(parse(mermaid).labels).toContain('and more');
    const chain: ExplainedRun[] = [];
    for (let run: ExplainedRun | undefined = deepTree; run; run = run.children[0]) chain.push(run);
    expect(chain.map(({ isCut }) => isCut)).toEqual([false, false, false, true]);
  });

  it('refuses what it does not know', async () => {
    await expect(app.orchestrator.explain('0198c0de-0000-7000-8000-000000000000')).rejects.toBeInstanceOf(
      RunNotFoundError,
    );
    await expect(app.orchestrator.explain('shop ordre')).rejects.toMatchObject({
      name: WorkflowNotRegisteredError.name,
      message:
        "No workflow 'shop ordre' is registered in this process. Did you mean 'shop order'? Add its class to the providers of a module.",
    });
  });

  it('is a flowchart whose every line is one of those that Mermaid has', async () => {
    const run = await app.orchestrator.start(ShopOrderWorkflow, { id: 'a' }, { key: NASTY });
    await until('it waits', async () => (await run.status()) === 'waiting');
    const charts = await Promise.all(
      [run.id, ShopOrderWorkflow].map((subject) => app.orchestrator.explain(subject as string)),
    );

    for (const { mermaid } of charts) expect(parse(mermaid).labels.length).toBeGreaterThan(1);
    expect(() => parse(charts[0]!.mermaid.replace('n1', 'n1 "'))).toThrow('no line of a flowchart');
  });
});

function entriesOf({ entries }: ExplainedRun): unknown[] {
  return entries.map(({ kind, key, status, answer }) => [kind, key, status, answer]);
}

/** In quotes: nothing that ends the text, begins an entity or a directive, or is formatting. */
const LABEL = /"((?:[\p{L}\p{M}\p{N} _.,()/@…-]|#\d+;)*)"/u.source;
const LINES = {
  node: new RegExp(
    String.raw`^(n\d+)(?:\[${LABEL}\]|\(\[${LABEL}\]\)|\{${LABEL}\}|>${LABEL}\])(?::::(?:failed|cancelled|waiting))?$`,
    'u',
  ),
  frame: new RegExp(String.raw`^subgraph (g\d+)\[${LABEL}\]$`, 'u'),
  edge: /^([ng]\d+) (?:-->|-\.->)(?:\|(?:yes|no)\|)? ([ng]\d+)$/,
  end: /^end$/,
  style: /^classDef \w+ [\w-]+:\w+$/,
};

/** Reads a flowchart line by line. Throws for a line that is none, a node that is not there, or a frame without its end. */
function parse(mermaid: string): { labels: string[]; frames: string[] } {
  const known = new Set<string>();
  const chart = { labels: [] as string[], frames: [] as string[] };
  let open = 0;
  const [header, ...lines] = mermaid.trimEnd().split('\n');
  if (header !== 'flowchart TD') throw new Error(`'${header}' is no header of a flowchart`);
  for (const line of lines.map((indented) => indented.trim())) {
    const [, id, ...texts] = LINES.node.exec(line) ?? LINES.frame.exec(line) ?? [];
    const [, from, to] = LINES.edge.exec(line) ?? [];
    if (id) known.add(id);
    if (id)
      (LINES.frame.test(line) ? chart.frames : chart.labels).push(decoded(texts.find((text) => text !== undefined)!));
    if (LINES.frame.test(line)) open++;
    if (LINES.end.test(line)) open--;
    if (from && !(known.has(from) && known.has(to!))) throw new Error(`'${line}' joins what is not there`);
    if (!id && !from && !LINES.end.test(line) && !LINES.style.test(line))
      throw new Error(`'${line}' is no line of a flowchart`);
  }
  if (open !== 0) throw new Error(`${open} subgraphs have no end`);
  return chart;
}

function decoded(label: string): string {
  return label.replaceAll(/#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)));
}
