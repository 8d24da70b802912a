import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** A Markdown file of the repository. */
export interface Document {
  /** From the root of the repository. */
  path: string;
  text: string;
}

/** A fenced block of a document. */
export interface CodeBlock {
  document: string;
  /** The line of the opening fence. */
  line: number;
  /** The heading above it; from the second block below a heading on with its number, as in `Sending (2)`. */
  name: string;
  /** '' where the fence says none. */
  language: string;
  /** From `file=…` behind the language: the block is that file, complete. */
  file: string | undefined;
  text: string;
}

const AT_THE_TOP = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'];

export function readDocuments(root: string): Document[] {
  const docs = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name));
  return [...AT_THE_TOP, ...docs].map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
}

export function codeBlocks({ path, text }: Document): CodeBlock[] {
  const counts = new Map<string, number>();
  let heading = '';
  const blocks: CodeBlock[] = [];
  for (const match of text.matchAll(/^#+ +(?<heading>.+)$|^```(\w*)(?: +file=(\S+))?[^\n]*\n([^]*?)^```$/gm)) {
    if (match.groups!.heading) {
      heading = match.groups!.heading;
      continue;
    }
    const count = (counts.get(heading) ?? 0) + 1;
    counts.set(heading, count);
    blocks.push({
      document: path,
      line: text.slice(0, match.index).split('\n').length,
      name: count === 1 ? heading : `${heading} (${count})`,
      language: match[2]!,
      file: match[3],
      text: match[4]!,
    });
  }
  return blocks;
}

/** The relative links of a document that lead nowhere. */
export function brokenLinks(root: string, { path, text }: Document): string[] {
  const prose = text.replace(/^```[^]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link!)
    .filter((link) => !/^[a-z]+:/.test(link) && !leadsSomewhere(root, path, link))
    .map((link) => `${path}: ${link}`);
}

function leadsSomewhere(root: string, from: string, link: string): boolean {
  const [target, anchor] = link.split('#') as [string, string | undefined];
  const file = target === '' ? join(root, from) : join(root, dirname(from), target);
  if (relative(root, file).startsWith('..') || !existsSync(file)) return false;
  return anchor === undefined || headings(readFileSync(file, 'utf8')).includes(anchor);
}

/** The anchors that GitHub gives the headings of a text. */
function headings(text: string): string[] {
  const prose = text.replace(/^```[^]*?^```$/gm, '');
  return [...prose.matchAll(/^#+ +(.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
