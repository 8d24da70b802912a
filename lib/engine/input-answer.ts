import type { StandardSchemaV1 } from '@standard-schema/spec';
import { inspect } from 'node:util';
import type { ValidationError } from './errors.js';
import type { InputType } from './input-options.js';

export type Issue = ValidationError['issues'][number];

/** What is wrong with an answer, as far as the question itself tells. What a form takes is said by its schema alone. */
export function issuesOf(question: { type: InputType; choices: readonly string[] | null }, answer: unknown): Issue[] {
  const expected = expectation(question, answer);
  return expected ? [{ message: `must be ${expected}, not ${inspect(answer, SHORT)}` }] : [];
}

function expectation(
  { type, choices }: { type: InputType; choices: readonly string[] | null },
  answer: unknown,
): string | undefined {
  switch (type) {
    case 'approval':
      return typeof answer === 'boolean' ? undefined : 'true or false';
    case 'choice':
      return choices!.includes(answer as string)
        ? undefined
        : `one of ${choices!.map((choice) => `'${choice}'`).join(', ')}`;
    case 'text':
      return typeof answer === 'string' ? undefined : 'a text';
    case 'form':
      return undefined;
  }
}

/** What a schema makes of an answer. A schema that throws has refused it. */
export async function applySchema(
  schema: StandardSchemaV1,
  answer: unknown,
): Promise<{ output: unknown } | { issues: Issue[] }> {
  try {
    const result = await schema['~standard'].validate(answer);
    return result.issues ? { issues: result.issues.map(toIssue) } : { output: result.value };
  } catch (error) {
    return { issues: [{ message: `the schema threw ${String(error)}` }] };
  }
}

function toIssue({ message, path }: StandardSchemaV1.Issue): Issue {
  if (!path) return { message };
  return { message, path: path.map((segment) => (typeof segment === 'object' ? segment.key : segment)).map(storable) };
}

const storable = (key: PropertyKey): PropertyKey => (typeof key === 'symbol' ? String(key) : key);

const SHORT = { depth: 1, maxStringLength: 100, maxArrayLength: 10, breakLength: Infinity };
