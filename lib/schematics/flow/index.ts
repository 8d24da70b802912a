import type { Rule } from '@angular-devkit/schematics';
import { scaffold, type ScaffoldOptions } from '../scaffold.js';

/** `nest g -c nestjs-orchestration flow <name>`: a workflow class that is a list of steps, its test, and its place in the nearest module. */
export function flow(options: ScaffoldOptions): Rule {
  return scaffold('flow', options);
}
