import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Duration } from './duration.js';
import { ValidationError } from './errors.js';
import { check } from './start-options.js';

/** How a person answers: yes or no, one of some texts, any text, or data of a form. */
export type InputType = 'approval' | 'choice' | 'text' | 'form';

interface Question {
  /** What the person is asked. */
  prompt?: string;
  /** How long to wait. Durable: a restart does not start it anew; zero or less ends at once. */
  timeout?: Duration;
}

/** Asks for yes or no. */
export interface ApprovalOptions extends Question {
  type: 'approval';
}

/** Asks for one of some texts. */
export interface ChoiceOptions<Choice extends string = string> extends Question {
  type: 'choice';
  choices: readonly Choice[];
}

/** Asks for a text. */
export interface TextOptions extends Question {
  type: 'text';
}

/** Asks for data. */
export interface FormOptions<Schema extends StandardSchemaV1 = StandardSchemaV1> extends Question {
  type: 'form';
  /** Any Standard Schema (Zod, Valibot, ArkType…): the run gets its output. Without one, any value is taken as it is. */
  schema?: Schema;
}

export type InputOptions = ApprovalOptions | ChoiceOptions | TextOptions | FormOptions;

const COMMON = ['type', 'prompt', 'timeout', 'timeoutValue'];
const KNOWN: Record<InputType, ReadonlySet<string>> = {
  approval: new Set(COMMON),
  choice: new Set([...COMMON, 'choices']),
  text: new Set(COMMON),
  form: new Set([...COMMON, 'schema']),
};

/** Refuses bad options of a wait for an input. @throws ValidationError */
export function checkInputOptions(name: string, options: InputOptions): void {
  const what = `ctx.waitForInput(${JSON.stringify(name)})`;
  if (typeof name !== 'string' || name === '')
    throw new ValidationError(what, [{ message: 'the name must be a text that is not empty' }]);
  const known = (options as InputOptions | undefined) && Object.hasOwn(KNOWN, options.type) && KNOWN[options.type];
  if (!known) {
    const message = `type must be one of ${Object.keys(KNOWN).join(', ')}, not ${JSON.stringify((options as Partial<InputOptions> | undefined)?.type)}`;
    throw new ValidationError(what, [{ message, path: ['type'] }]);
  }
  // Also when it is not given: a choice of nothing cannot be answered.
  const choices = options.type === 'choice' ? { choices: (options.choices as unknown) ?? [] } : {};
  check(what, { ...options, ...choices }, known);
}
