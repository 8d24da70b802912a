import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One command of a block of shell. */
export interface ShellCommand {
  words: string[];
  /** What stands behind `#` in its line. */
  comment: string | undefined;
}

interface Package {
  name: string;
  scripts: Record<string, string>;
  peerDependencies: Record<string, string>;
  devDependencies: Record<string, string>;
}

/** The commands of a block, in their order: enough of a shell's grammar for what documents show. */
export function commandsOf(text: string): ShellCommand[] {
  const lines = text.replace(/\\\n/g, ' ').split('\n');
  return lines.flatMap((line) => {
    const [, code, comment] = /^(.*?)(?:(?:^|\s+)#\s*(.*))?$/.exec(line)!;
    const commands = code!
      .split('&&')
      .map((one) => [...one.matchAll(/'([^']*)'|(\S+)/g)].map((word) => word[1] ?? word[2]!));
    return commands.filter((words) => words.length > 0).map((words) => ({ words, comment }));
  });
}

/** What is wrong with a command of npm: a script or a package that there is not. */
export function npmProblems(root: string, { words }: ShellCommand): string[] {
  const [program, command = '', ...args] = words.filter((word) => !/^[A-Z_]+=/.test(word));
  if (program !== 'npm') return [`${words.join(' ')}: not a command of npm`];
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Package;
  if (['ci', 'start', 'test'].includes(command)) return [];
  if (command === 'run') return args.filter((script) => !own.scripts[script]);
  const known = [own.name, ...Object.keys({ ...own.peerDependencies, ...own.devDependencies })];
  return args.filter((name) => !name.startsWith('-') && !known.includes(name));
}
