import type { RunTree } from '../../engine/run.js';
import type { CommandLine } from '../command-line.js';
import { styled } from '../output.js';
import { findRunId } from '../run-reference.js';
import { describeStatus, shortened, tookOf } from '../run-text.js';
import { plain } from '../table.js';
import { describeAge } from '../time-text.js';

export function addTreeCommand({ program, onEngine }: CommandLine): void {
  program
    .command('tree')
    .description('A run and its descendants, with their times.')
    .argument('<run>', 'its id, the beginning of it, or workflow/key')
    .option('--family', 'the whole family, from its topmost run on')
    .action((reference: string, { family }: { family?: true }) =>
      onEngine(async ({ orchestrator, engine, output }) => {
        const id = await findRunId(engine, reference);
        const tree = await orchestrator.tree(family ? (await orchestrator.get(id)).rootId : id);
        output.show(tree, () => draw(tree));
      }),
    );
}

function draw(tree: RunTree): string {
  const short = shortened(idsOf(tree));
  const lines: string[] = [];
  // Families may be as deep as a stack is not: each line is drawn with what stands left of it.
  const open: { run: RunTree; first: string; rest: string }[] = [{ run: tree, first: '', rest: '' }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { run, first, rest } = next;
    lines.push(first + describe(run, short(run.id)));
    for (const [index, child] of [...run.children.entries()].reverse()) {
      const isLast = index === run.children.length - 1;
      open.push({ run: child, first: `${rest}${isLast ? '└─ ' : '├─ '}`, rest: `${rest}${isLast ? '   ' : '│  '}` });
    }
  }
  return lines.join('\n');
}

function describe(run: RunTree, id: string): string {
  const name = plain(run.ref === undefined ? run.workflow : `${run.ref} (${run.workflow})`);
  const label = run.label === undefined ? '' : ` ${plain(JSON.stringify(run.label))}`;
  return `${name}${label} ${describeStatus(run)} ${timesOf(run)}  ${styled('dim', id)}`;
}

function timesOf({ createdAt, startedAt, finishedAt }: RunTree): string {
  if (finishedAt) return startedAt ? `took ${tookOf(startedAt, finishedAt)}` : 'never began';
  return startedAt ? `began ${describeAge(startedAt)}` : `created ${describeAge(createdAt)}`;
}

function idsOf(tree: RunTree): string[] {
  const ids: string[] = [];
  const open = [tree];
  for (let next = open.pop(); next; next = open.pop()) {
    ids.push(next.id);
    open.push(...next.children);
  }
  return ids;
}
