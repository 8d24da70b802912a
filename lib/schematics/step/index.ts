import type { Rule } from '@angular-devkit/schematics';
import { scaffold, type ScaffoldOptions } from '../scaffold.js';

/** `nest g -c nestjs-orchestration step <name>`: a provider with one `@Step`, its test, and its place in the nearest module. */
export function step(options: ScaffoldOptions): Rule {
  return scaffold('step', options);
}
