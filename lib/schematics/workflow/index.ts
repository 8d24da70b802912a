import type { Rule } from '@angular-devkit/schematics';
import { scaffold, type ScaffoldOptions } from '../scaffold.js';

/** `nest g -c nestjs-orchestration workflow <name>`: a workflow class, its test, and its place in the nearest module. */
export function workflow(options: ScaffoldOptions): Rule {
  return scaffold('workflow', options);
}
