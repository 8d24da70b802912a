import type { ExplainedEntry, ExplainedGroup, ExplainedRun, ExplainedStep, ExplainedWorkflow } from './explain.js';
import type { WaitingFor } from './run.js';

const LONGEST_LABEL = 80;
/** How many of the waits of a run are drawn. */
const WAITS = 5;

/** A flow as a flowchart; of a class with `run`, the steps that it declares, beside each other. */
export function drawWorkflow({ workflow, version, isFlow, steps }: ExplainedWorkflow): string {
  const chart = new Flowchart();
  const begin = chart.node('stadium', `${workflow}@${version}`);
  if (!isFlow) {
    for (const step of steps) chart.edge(begin, drawStage(chart, step).enter, { dotted: true });
    return chart.text();
  }
  let loose: Loose[] = [{ from: begin }];
  for (const step of steps) {
    const { enter, leave } = drawStage(chart, step);
    for (const { from, label } of loose) chart.edge(from, enter, { label });
    loose = leave;
  }
  const end = chart.node('stadium', 'end');
  for (const { from, label } of loose) chart.edge(from, end, { label });
  return chart.text();
}

/** A run as a flowchart: its entries in their order, then what it waits for; each child beside the entry that waited for it. */
export function drawRun(run: ExplainedRun): string {
  const chart = new Flowchart();
  drawRunWithin(chart, run);
  chart.line('classDef failed stroke:red', 'classDef cancelled stroke-dasharray:4', 'classDef waiting stroke:orange');
  return chart.text();
}

/** Where the next node is to be attached. */
interface Loose {
  from: string;
  label?: string;
}

function drawStage(chart: Flowchart, stage: ExplainedStep | ExplainedGroup): { enter: string; leave: Loose[] } {
  if (stage.kind === 'step') return drawStep(chart, stage);
  const group = chart.subgraph(`${stage.name} (${stage.onError})`, () => {
    for (const step of stage.steps) drawStep(chart, step);
  });
  return { enter: group, leave: [{ from: group }] };
}

function drawStep(chart: Flowchart, { name, isConditional }: ExplainedStep): { enter: string; leave: Loose[] } {
  if (!isConditional) {
    const step = chart.node('box', name);
    return { enter: step, leave: [{ from: step }] };
  }
  const condition = chart.node('diamond', 'when');
  const step = chart.node('box', name);
  chart.edge(condition, step, { label: 'yes' });
  return { enter: condition, leave: [{ from: step }, { from: condition, label: 'no' }] };
}

function drawRunWithin(chart: Flowchart, run: ExplainedRun): string {
  const nodeOfChild = new Map<string, string>();
  const frame = chart.subgraph(describeRun(run), () => {
    let last = chart.node('stadium', run.startedAt ? 'begun' : 'not begun');
    for (const entry of run.entries) {
      const node = chart.node(entry.kind === 'decision' ? 'diamond' : 'box', describeEntry(entry), styleOf(entry));
      chart.edge(last, node);
      if (entry.childId !== undefined) nodeOfChild.set(entry.childId, node);
      last = node;
    }
    const rest = [...run.waitingFor.slice(0, WAITS).map(describeWait), ...(run.isCut ? ['and more'] : [])];
    for (const text of rest) chart.edge(last, chart.node('flag', text, 'waiting'), { dotted: true });
  });
  for (const child of run.children)
    chart.edge(nodeOfChild.get(child.id) ?? frame, drawRunWithin(chart, child), { dotted: true });
  return frame;
}

function describeRun({ workflow, version, ref, status, durationMs }: ExplainedRun): string {
  const took = durationMs === undefined ? '' : `, ${describeDuration(durationMs)}`;
  return `${ref === undefined ? '' : `${ref}: `}${workflow}@${version} (${status}${took})`;
}

function describeEntry({ kind, key, status, attempts, durationMs, answer }: ExplainedEntry): string {
  if (kind === 'decision') return `${key}: ${answer ? 'yes' : 'no'}`;
  const facts = [status, ...(attempts > 1 ? [`${attempts} attempts`] : []), describeDuration(durationMs)];
  return `${kind} ${key} (${facts.join(', ')})`;
}

function describeWait({ kind, name, until }: WaitingFor): string {
  return `waits for ${kind} ${name}${until ? ` until ${until.toISOString()}` : ''}`;
}

function styleOf({ status }: ExplainedEntry): string | undefined {
  if (status === 'completed') return undefined;
  return status === 'cancelled' ? 'cancelled' : 'failed';
}

function describeDuration(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

const SHAPES = { box: ['[', ']'], stadium: ['([', '])'], diamond: ['{', '}'], flag: ['>', ']'] } as const;

/** Writes the text of a flowchart. Nodes are known by ids of our own, so that names stand in quotes only. */
class Flowchart {
  private readonly lines: string[] = [];
  private indent = 1;
  private count = 0;

  node(shape: keyof typeof SHAPES, label: string, style?: string): string {
    const id = `n${++this.count}`;
    const [open, close] = SHAPES[shape];
    this.line(`${id}${open}${quoted(label)}${close}${style ? `:::${style}` : ''}`);
    return id;
  }

  subgraph(label: string, draw: () => void): string {
    const id = `g${++this.count}`;
    this.line(`subgraph ${id}[${quoted(label)}]`);
    this.indent++;
    draw();
    this.indent--;
    this.line('end');
    return id;
  }

  edge(from: string, to: string, { label, dotted }: { label?: string | undefined; dotted?: boolean } = {}): void {
    this.line(`${from} ${dotted ? '-.->' : '-->'}${label === undefined ? '' : `|${label}|`} ${to}`);
  }

  line(...lines: string[]): void {
    for (const line of lines) this.lines.push('  '.repeat(this.indent) + line);
  }

  text(): string {
    return ['flowchart TD', ...this.lines, ''].join('\n');
  }
}

/** Letters, digits and little more stand for themselves; everything that Mermaid may take for syntax is an entity. */
function quoted(label: string): string {
  const characters = Array.from(label.replaceAll(/\s+/gu, ' '));
  const short = characters.length > LONGEST_LABEL ? [...characters.slice(0, LONGEST_LABEL - 1), '…'] : characters;
  return `"${short.map((one) => (/[\p{L}\p{M}\p{N} _.,()/@…-]/u.test(one) ? one : `#${one.codePointAt(0)};`)).join('')}"`;
}
